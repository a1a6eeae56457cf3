-- name: CreateDatacenter :exec
INSERT INTO datacenter (id, created_at) VALUES (sqlc.arg(id), sqlc.arg(created_at));

-- name: CreateLoginHost :exec
INSERT INTO login_host (id, datacenter_id, host, port, key_pin, fingerprint, created_at)
VALUES (
    sqlc.arg(id), sqlc.arg(datacenter_id), sqlc.arg(host), sqlc.arg(port),
    sqlc.arg(key_pin), sqlc.arg(fingerprint), sqlc.arg(created_at)
);

-- name: LoginHostAt :one
SELECT * FROM login_host WHERE host = sqlc.arg(host) AND port = sqlc.arg(port);

-- name: LoginHost :one
SELECT * FROM login_host WHERE id = sqlc.arg(id);

-- name: PinLoginHost :execrows
UPDATE login_host SET key_pin = sqlc.arg(key_pin), fingerprint = sqlc.arg(fingerprint) WHERE id = sqlc.arg(id);

-- name: NoteCertificate :exec
UPDATE login_host SET fingerprint = sqlc.arg(fingerprint)
WHERE id = sqlc.arg(id) AND (key_pin = sqlc.narg(key_pin) OR (key_pin IS NULL AND sqlc.narg(key_pin) IS NULL));

-- name: LoginHosts :many
SELECT * FROM login_host ORDER BY created_at, id;

-- name: LoginHostsOf :many
SELECT * FROM login_host WHERE datacenter_id = sqlc.arg(datacenter_id) ORDER BY created_at, id;

-- name: DeleteLoginHost :execrows
DELETE FROM login_host WHERE id = sqlc.arg(id);

-- name: EndSessionsAtHost :exec
DELETE FROM session WHERE login_host_id = sqlc.arg(login_host_id);
