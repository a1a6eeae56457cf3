-- name: IsFamiliar :one
SELECT COUNT(*) FROM familiar
WHERE datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id) AND kind = sqlc.arg(kind)
    AND mark = sqlc.arg(mark) AND seen_at >= sqlc.arg(since);

-- name: IsAccount :one
SELECT EXISTS (SELECT 1 FROM familiar WHERE datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id));

-- name: NoteFamiliar :exec
INSERT INTO familiar (datacenter_id, user_id, kind, mark, seen_at)
VALUES (sqlc.arg(datacenter_id), sqlc.arg(user_id), sqlc.arg(kind), sqlc.arg(mark), sqlc.arg(seen_at))
ON CONFLICT (datacenter_id, user_id, kind, mark) DO UPDATE SET seen_at = excluded.seen_at;

-- name: TrimFamiliarOfAccount :exec
DELETE FROM familiar
WHERE familiar.datacenter_id = sqlc.arg(datacenter_id) AND familiar.user_id = sqlc.arg(user_id) AND familiar.kind = sqlc.arg(kind)
    AND familiar.mark NOT IN (
        SELECT f.mark FROM familiar AS f
        WHERE f.datacenter_id = sqlc.arg(datacenter_id) AND f.user_id = sqlc.arg(user_id) AND f.kind = sqlc.arg(kind)
        ORDER BY f.seen_at DESC
        LIMIT sqlc.arg(kept)
    );

-- name: TrimFamiliarOfDatacenter :exec
DELETE FROM familiar
WHERE familiar.datacenter_id = sqlc.arg(datacenter_id) AND familiar.seen_at < (
    SELECT f.seen_at FROM familiar AS f
    WHERE f.datacenter_id = sqlc.arg(datacenter_id)
    ORDER BY f.seen_at DESC
    LIMIT 1 OFFSET sqlc.arg(last)
);

-- name: ReplaceMark :exec
UPDATE familiar SET mark = sqlc.arg(renewed) WHERE mark = sqlc.arg(mark) AND kind = sqlc.arg(kind);

-- name: ForgetFamiliarBefore :exec
DELETE FROM familiar WHERE seen_at < sqlc.arg(before);
