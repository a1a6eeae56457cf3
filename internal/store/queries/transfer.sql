-- name: Transfer :one
SELECT source FROM transfer WHERE id = 1;

-- name: BeginTransfer :exec
INSERT INTO transfer (id, source, began_at) VALUES (1, sqlc.arg(source), sqlc.arg(began_at));

-- name: EndTransfer :exec
DELETE FROM transfer;

-- name: InstallationMade :one
SELECT created_at FROM installation WHERE id = 1;
