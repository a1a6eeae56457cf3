-- name: KeyCheck :one
SELECT key_check FROM installation WHERE id = 1;

-- name: CreateInstallation :exec
INSERT INTO installation (id, created_at, key_check) VALUES (1, sqlc.arg(created_at), sqlc.arg(key_check))
ON CONFLICT (id) DO NOTHING;

-- name: Claim :one
SELECT claimed_by, claim_code FROM installation WHERE id = 1;

-- name: SetClaimCode :exec
UPDATE installation SET claim_code = sqlc.arg(claim_code) WHERE id = 1 AND claimed_by IS NULL AND claim_code IS NULL;

-- name: SetClaimed :execrows
UPDATE installation SET claimed_by = sqlc.arg(datacenter_id), claim_code = NULL WHERE id = 1 AND claimed_by IS NULL;

-- name: SealedOfInstallation :one
SELECT key_check, claim_code FROM installation WHERE id = 1;

-- name: ResealKeyCheck :exec
UPDATE installation SET key_check = sqlc.arg(fresh) WHERE id = 1 AND key_check = sqlc.arg(old);

-- name: ResealClaimCode :exec
UPDATE installation SET claim_code = sqlc.arg(fresh) WHERE id = 1 AND claim_code = sqlc.arg(old);

-- name: Epoch :one
SELECT epoch, epoch_file FROM installation WHERE id = 1;

-- name: SetEpoch :exec
UPDATE installation SET epoch = sqlc.arg(epoch), epoch_file = sqlc.arg(epoch_file) WHERE id = 1;
