-- name: CreateAccessToken :exec
INSERT INTO access_token (id, hash, datacenter_id, user_id, name, scope, created_at, expires_at, last_used_at)
VALUES (
    sqlc.arg(id), sqlc.arg(hash), sqlc.arg(datacenter_id), sqlc.arg(user_id), sqlc.arg(name), sqlc.arg(scope),
    sqlc.arg(created_at), sqlc.arg(expires_at), sqlc.arg(last_used_at)
);

-- name: FindAccessToken :one
SELECT * FROM access_token WHERE hash = sqlc.arg(hash);

-- name: AccessTokens :many
SELECT * FROM access_token
WHERE datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id)
ORDER BY created_at DESC, id;

-- name: RevokeAccessToken :one
DELETE FROM access_token
WHERE id = sqlc.arg(id) AND datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id)
RETURNING *;

-- name: RevokeAllAccessTokens :execrows
DELETE FROM access_token;

-- name: TouchAccessToken :exec
UPDATE access_token SET last_used_at = sqlc.arg(used) WHERE id = sqlc.arg(id) AND last_used_at < sqlc.arg(used);

-- name: RemoveAccessTokensExpired :execrows
DELETE FROM access_token WHERE expires_at <= sqlc.arg(before);
