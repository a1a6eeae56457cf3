-- name: CreateSession :exec
INSERT INTO session (
    hash, datacenter_id, user_id, login_host_id, realm, secret, generation,
    ticket_at, created_at, last_seen_at, ends_at, address, user_agent, last_address
) VALUES (
    sqlc.arg(hash), sqlc.arg(datacenter_id), sqlc.arg(user_id), sqlc.arg(login_host_id), sqlc.arg(realm),
    sqlc.arg(secret), sqlc.arg(generation), sqlc.arg(ticket_at), sqlc.arg(created_at), sqlc.arg(last_seen_at),
    sqlc.arg(ends_at), sqlc.arg(address), sqlc.arg(user_agent), sqlc.arg(last_address)
);

-- What was ended stays ended, even if an older copy of the row came back.
-- name: FindSession :one
SELECT * FROM session
WHERE session.hash = sqlc.arg(hash) AND NOT EXISTS (SELECT 1 FROM ended_session WHERE ended_session.hash = session.hash);

-- name: FindSessionBetween :many
SELECT * FROM session
WHERE session.hash >= sqlc.arg(first) AND session.hash <= sqlc.arg(last)
    AND NOT EXISTS (SELECT 1 FROM ended_session WHERE ended_session.hash = session.hash)
LIMIT 2;

-- name: TouchSession :exec
UPDATE session SET last_seen_at = sqlc.arg(seen), last_address = sqlc.arg(last_address)
WHERE hash = sqlc.arg(hash) AND last_seen_at < sqlc.arg(seen);

-- name: RenewSession :execrows
UPDATE session
SET secret = sqlc.arg(secret), ticket_at = sqlc.arg(ticket_at), generation = generation + 1
WHERE session.hash = sqlc.arg(hash) AND generation = sqlc.arg(generation)
    AND NOT EXISTS (SELECT 1 FROM ended_session WHERE ended_session.hash = session.hash);

-- name: EndSession :exec
DELETE FROM session WHERE hash = sqlc.arg(hash);

-- name: EndSessionsBefore :execrows
DELETE FROM session WHERE last_seen_at <= sqlc.arg(idle) OR ends_at <= sqlc.arg(now);

-- name: AgingSessions :many
SELECT * FROM session
WHERE ticket_at <= sqlc.arg(ticket_before) AND last_seen_at > ticket_at
    AND NOT EXISTS (SELECT 1 FROM ended_session WHERE ended_session.hash = session.hash)
ORDER BY ticket_at
LIMIT sqlc.arg(most);

-- name: MarkEnded :exec
INSERT INTO ended_session (hash, ended_at, until)
VALUES (
    sqlc.arg(hash), sqlc.arg(ended_at),
    (
        SELECT MAX(ends.at) FROM (
            SELECT CAST(sqlc.arg(until) AS BIGINT) AS at
            UNION ALL
            SELECT session.ends_at FROM session WHERE session.hash = sqlc.arg(hash)
        ) AS ends
    )
)
ON CONFLICT (hash) DO UPDATE SET until = CASE WHEN excluded.until > ended_session.until THEN excluded.until ELSE ended_session.until END;

-- name: ForgetEnded :exec
DELETE FROM ended_session WHERE until <= sqlc.arg(now);

-- Whose sessions are meant: those of one identity, or with everyone set of all.
-- name: Sessions :many
SELECT * FROM session
WHERE (CAST(sqlc.arg(everyone) AS BOOLEAN) OR (datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id)))
    AND last_seen_at > sqlc.arg(idle) AND ends_at > sqlc.arg(now)
    AND instr(lower(user_id || char(10) || address || char(10) || user_agent), lower(sqlc.arg(text))) > 0
    AND NOT EXISTS (SELECT 1 FROM ended_session WHERE ended_session.hash = session.hash)
ORDER BY last_seen_at DESC, hash
LIMIT sqlc.arg(most);

-- name: MarkOthersEnded :exec
INSERT INTO ended_session (hash, ended_at, until)
SELECT s.hash, CAST(sqlc.arg(ended_at) AS BIGINT), CASE WHEN s.ends_at > sqlc.arg(until) THEN s.ends_at ELSE sqlc.arg(until) END
FROM session AS s
WHERE (CAST(sqlc.arg(everyone) AS BOOLEAN) OR (s.datacenter_id = sqlc.arg(datacenter_id) AND s.user_id = sqlc.arg(user_id)))
    AND s.hash <> sqlc.arg(keep)
ON CONFLICT (hash) DO UPDATE SET until = CASE WHEN excluded.until > ended_session.until THEN excluded.until ELSE ended_session.until END;

-- name: EndOtherSessions :many
DELETE FROM session
WHERE (CAST(sqlc.arg(everyone) AS BOOLEAN) OR (datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id)))
    AND hash <> sqlc.arg(keep)
RETURNING hash, datacenter_id, user_id;

-- name: SealedSessions :many
SELECT hash, secret FROM session WHERE hash > sqlc.arg(behind) ORDER BY hash LIMIT sqlc.arg(most);

-- name: ResealSession :exec
UPDATE session SET secret = sqlc.arg(fresh) WHERE hash = sqlc.arg(hash) AND secret = sqlc.arg(old);
