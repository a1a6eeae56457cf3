-- name: AddAudit :exec
INSERT INTO audit (
    at, datacenter_id, user_id, subject_datacenter_id, subject_user_id, address, network,
    category, action, target, result, error_id, detail, attempts
) VALUES (
    sqlc.arg(at), sqlc.arg(datacenter_id), sqlc.arg(user_id), sqlc.arg(subject_datacenter_id), sqlc.arg(subject_user_id),
    sqlc.arg(address), sqlc.arg(network), sqlc.arg(category), sqlc.arg(action), sqlc.arg(target), sqlc.arg(result), sqlc.arg(error_id),
    sqlc.arg(detail), sqlc.arg(attempts)
);

-- The address of what somebody else did is not searched: it is not shown either.
-- name: AuditOf :many
SELECT * FROM audit
WHERE (
        (datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id))
        OR (subject_datacenter_id = sqlc.arg(datacenter_id) AND subject_user_id = sqlc.arg(user_id) AND subject_user_id <> '')
    )
    AND id < sqlc.arg(before) AND at >= sqlc.arg(from_at) AND at < sqlc.arg(to_at)
    AND (CAST(sqlc.arg(action) AS TEXT) = '' OR action = sqlc.arg(action))
    AND (CAST(sqlc.arg(result) AS TEXT) = '' OR result = sqlc.arg(result))
    AND instr(lower(
        user_id || char(10) || subject_user_id || char(10) || target || char(10) || error_id || char(10) || detail || char(10)
        || CASE WHEN datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id) THEN address ELSE '' END
    ), lower(sqlc.arg(text))) > 0
ORDER BY id DESC
LIMIT sqlc.arg(most);

-- The categories are those of audit.Shared.
-- name: AuditShared :many
SELECT * FROM audit
WHERE (
        category IN ('sign_in', 'session', 'host', 'key')
        OR (datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id))
        OR (subject_datacenter_id = sqlc.arg(datacenter_id) AND subject_user_id = sqlc.arg(user_id) AND subject_user_id <> '')
    )
    AND id < sqlc.arg(before) AND at >= sqlc.arg(from_at) AND at < sqlc.arg(to_at)
    AND (CAST(sqlc.arg(action) AS TEXT) = '' OR action = sqlc.arg(action))
    AND (CAST(sqlc.arg(result) AS TEXT) = '' OR result = sqlc.arg(result))
    AND instr(lower(
        user_id || char(10) || subject_user_id || char(10) || target || char(10) || error_id || char(10) || detail || char(10)
        || address
    ), lower(sqlc.arg(text))) > 0
ORDER BY id DESC
LIMIT sqlc.arg(most);

-- name: RemoveAuditBefore :execrows
DELETE FROM audit WHERE at < sqlc.arg(before);

-- name: CountAuditRefused :one
SELECT COUNT(*) FROM audit WHERE category = 'sign_in' AND result = 'refused';

-- What goes first is the oldest of the networks that have the most.
-- name: RemoveAuditRefused :execrows
DELETE FROM audit WHERE id IN (
    SELECT placed.id FROM (
        SELECT ranked.id, row_number() OVER (ORDER BY ranked.nth, ranked.id DESC) AS place
        FROM (
            SELECT a.id, row_number() OVER (PARTITION BY a.network ORDER BY a.id DESC) AS nth
            FROM audit AS a
            WHERE a.category = 'sign_in' AND a.result = 'refused'
        ) AS ranked
    ) AS placed
    WHERE placed.place > CAST(sqlc.arg(kept) AS BIGINT)
);
