-- Ends of sessions that are kept elsewhere than in this database.
-- name: MarkSessionEnded :exec
INSERT INTO ended_session (hash, ended_at, until)
VALUES (sqlc.arg(hash), sqlc.arg(ended_at), sqlc.arg(until))
ON CONFLICT (hash) DO UPDATE SET until = excluded.until
WHERE ended_session.until < excluded.until;

-- name: EndedSession :one
SELECT COUNT(*) FROM ended_session WHERE hash = sqlc.arg(hash);

-- name: LoginHostCount :one
SELECT COUNT(*) FROM login_host WHERE id = sqlc.arg(id);
