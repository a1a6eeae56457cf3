-- An operation that has ended takes no lock any more.
-- name: TakeLock :execrows
INSERT INTO container_lock (cluster_id, vmid, datacenter_id, user_id, operation_id, lease_until)
SELECT o.cluster_id, o.vmid, o.datacenter_id, o.user_id, o.id, CAST(sqlc.arg(lease_until) AS BIGINT)
FROM operation AS o
WHERE o.id = sqlc.arg(operation_id) AND o.ended_at IS NULL
ON CONFLICT (cluster_id, vmid) DO UPDATE SET
    datacenter_id = excluded.datacenter_id, user_id = excluded.user_id, operation_id = excluded.operation_id,
    lease_until = excluded.lease_until
WHERE container_lock.operation_id = excluded.operation_id;

-- name: RemoveLapsedLock :exec
DELETE FROM container_lock
WHERE cluster_id = sqlc.arg(cluster_id) AND vmid = sqlc.arg(vmid) AND lease_until <= sqlc.arg(now) AND operation_id <> sqlc.arg(operation_id);

-- name: LockHolder :one
SELECT operation.* FROM operation
JOIN container_lock ON container_lock.operation_id = operation.id
WHERE container_lock.cluster_id = sqlc.arg(cluster_id) AND container_lock.vmid = sqlc.arg(vmid);

-- name: ReleaseLock :exec
DELETE FROM container_lock WHERE operation_id = sqlc.arg(operation_id);

-- name: RemoveLocksBefore :exec
DELETE FROM container_lock WHERE lease_until <= sqlc.arg(now);

-- A waiting operation begins where a new one would be stored. Which cluster and member have the container was not known
-- while it waited, and the lock is the cluster's.
-- name: BeginOperation :execrows
INSERT INTO operation (
    id, datacenter_id, user_id, node_id, cluster_id, member, vmid, name, action, place, state, upid, after_upid, error, created_at, seen
) VALUES (
    sqlc.arg(id), sqlc.arg(datacenter_id), sqlc.arg(user_id), sqlc.arg(node_id), sqlc.arg(cluster_id), sqlc.arg(member),
    sqlc.arg(vmid), sqlc.arg(name), sqlc.arg(action), 0, 'sending', '', '', '', sqlc.arg(created_at), FALSE
)
ON CONFLICT (id) DO UPDATE SET
    state = 'sending', cluster_id = excluded.cluster_id, member = excluded.member, name = excluded.name
WHERE operation.state = 'waiting';

-- name: AddOperation :exec
INSERT INTO operation (
    id, datacenter_id, user_id, node_id, cluster_id, member, vmid, name, action, bulk_id, place, state, upid, after_upid, error,
    created_at, ended_at, seen
) VALUES (
    sqlc.arg(id), sqlc.arg(datacenter_id), sqlc.arg(user_id), sqlc.arg(node_id), sqlc.arg(cluster_id), sqlc.arg(member),
    sqlc.arg(vmid), sqlc.arg(name), sqlc.arg(action), sqlc.narg(bulk_id), sqlc.arg(place), sqlc.arg(state), '', '', sqlc.arg(error),
    sqlc.arg(created_at), sqlc.narg(ended_at), sqlc.arg(seen)
);

-- What is under way through nodes of a cluster that was joined to another one is that one's.
-- name: JoinOperations :exec
UPDATE operation SET cluster_id = sqlc.arg(into)
WHERE operation.cluster_id = sqlc.arg(cluster_id) AND operation.ended_at IS NULL
    AND EXISTS (SELECT 1 FROM node WHERE node.id = operation.node_id AND node.cluster_id = sqlc.arg(into));

-- name: NoteAfter :exec
UPDATE operation SET after_upid = sqlc.arg(after_upid) WHERE id = sqlc.arg(id) AND state = 'sending';

-- name: AcceptOperation :execrows
UPDATE operation SET state = 'running', upid = sqlc.arg(upid) WHERE id = sqlc.arg(id) AND state = 'sending';

-- Of a container's other operations: the tasks that they have become, and whether one that was sent later, or holds the lock, may
-- become one any moment.
-- name: OtherOperations :many
SELECT operation.upid, CAST(CASE WHEN operation.state = 'sending' AND (
        operation.created_at > sqlc.arg(created_at) OR (operation.created_at = sqlc.arg(created_at) AND operation.id > sqlc.arg(id))
        OR EXISTS (SELECT 1 FROM container_lock WHERE container_lock.operation_id = operation.id AND container_lock.lease_until > sqlc.arg(now))
    ) THEN 1 ELSE 0 END AS BIGINT) AS contends
FROM operation
WHERE operation.cluster_id = sqlc.arg(cluster_id) AND operation.vmid = sqlc.arg(vmid) AND operation.id <> sqlc.arg(id)
    AND (operation.upid <> '' OR operation.state = 'sending');

-- name: EndOperation :execrows
UPDATE operation SET
    state = sqlc.arg(state), error = sqlc.arg(error), ended_at = sqlc.arg(ended_at), seen = sqlc.arg(seen),
    upid = CASE WHEN upid = '' THEN CAST(sqlc.arg(upid) AS TEXT) ELSE upid END
WHERE id = sqlc.arg(id) AND ended_at IS NULL;

-- name: Operation :one
SELECT * FROM operation
WHERE id = sqlc.arg(id) AND datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id);

-- name: AbandonedOperations :many
SELECT * FROM operation
WHERE operation.datacenter_id = sqlc.arg(datacenter_id) AND operation.user_id = sqlc.arg(user_id) AND operation.ended_at IS NULL
    AND (operation.state = 'sending' OR operation.state = 'running')
    AND NOT EXISTS (
        SELECT 1 FROM container_lock
        WHERE container_lock.operation_id = operation.id AND container_lock.lease_until > sqlc.arg(now)
    )
ORDER BY operation.created_at, operation.id
LIMIT sqlc.arg(most);

-- name: UnfinishedOperations :one
SELECT COUNT(*) FROM operation
WHERE datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id) AND ended_at IS NULL
    AND (state = 'sending' OR state = 'running') AND bulk_id IS NULL;

-- name: UnseenOperations :many
SELECT * FROM operation
WHERE datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id) AND NOT seen AND ended_at IS NOT NULL
    AND (state = 'failed' OR state = 'unknown')
ORDER BY ended_at DESC, id
LIMIT sqlc.arg(most);

-- name: MarkSeen :execrows
UPDATE operation SET seen = TRUE
WHERE datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id) AND NOT seen AND ended_at IS NOT NULL
    AND (id = sqlc.arg(id) OR bulk_id = sqlc.arg(id) OR sqlc.arg(id) = '');

-- name: LostOperations :many
SELECT * FROM operation
WHERE operation.ended_at IS NULL AND operation.created_at < sqlc.arg(before)
    AND NOT EXISTS (
        SELECT 1 FROM container_lock
        WHERE container_lock.operation_id = operation.id AND container_lock.lease_until > sqlc.arg(now)
    )
    AND NOT EXISTS (
        SELECT 1 FROM bulk_run WHERE bulk_run.id = operation.bulk_id AND bulk_run.driven_until > sqlc.arg(now)
    )
LIMIT sqlc.arg(most);

-- name: ForgetOperationsBefore :exec
DELETE FROM operation WHERE ended_at < sqlc.arg(before) AND bulk_id IS NULL;

-- Of each identity the newest are kept.
-- name: ForgetManyOperations :exec
DELETE FROM operation WHERE bulk_id IS NULL AND ended_at IS NOT NULL AND CAST(sqlc.arg(kept) AS BIGINT) <= (
    SELECT COUNT(*) FROM operation AS newer
    WHERE newer.datacenter_id = operation.datacenter_id AND newer.user_id = operation.user_id AND newer.bulk_id IS NULL
        AND (newer.created_at > operation.created_at OR (newer.created_at = operation.created_at AND newer.id > operation.id))
);

-- name: CreateRun :exec
INSERT INTO bulk_run (id, datacenter_id, user_id, action, created_at, driven_until)
VALUES (
    sqlc.arg(id), sqlc.arg(datacenter_id), sqlc.arg(user_id), sqlc.arg(action), sqlc.arg(created_at), sqlc.arg(driven_until)
);

-- name: Run :one
SELECT * FROM bulk_run
WHERE id = sqlc.arg(id) AND datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id);

-- name: OperationsOfRun :many
SELECT * FROM operation WHERE bulk_id = sqlc.arg(bulk_id) ORDER BY place;

-- name: DriveRun :exec
UPDATE bulk_run SET driven_until = sqlc.arg(driven_until) WHERE id = sqlc.arg(id);

-- name: CancelWaiting :execrows
UPDATE operation SET state = 'canceled', error = sqlc.arg(error), ended_at = sqlc.arg(ended_at), seen = TRUE
WHERE bulk_id = sqlc.arg(bulk_id) AND datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id) AND state = 'waiting';

-- name: AbandonedRuns :many
SELECT bulk_run.id FROM bulk_run
WHERE bulk_run.datacenter_id = sqlc.arg(datacenter_id) AND bulk_run.user_id = sqlc.arg(user_id) AND bulk_run.driven_until <= sqlc.arg(now)
    AND EXISTS (SELECT 1 FROM operation WHERE operation.bulk_id = bulk_run.id AND operation.state = 'waiting');

-- name: UnfinishedRuns :one
SELECT COUNT(*) FROM bulk_run
WHERE bulk_run.datacenter_id = sqlc.arg(datacenter_id) AND bulk_run.user_id = sqlc.arg(user_id)
    AND EXISTS (SELECT 1 FROM operation WHERE operation.bulk_id = bulk_run.id AND operation.ended_at IS NULL);

-- name: ForgetRunsBefore :exec
DELETE FROM bulk_run
WHERE bulk_run.created_at < sqlc.arg(before)
    AND NOT EXISTS (SELECT 1 FROM operation WHERE operation.bulk_id = bulk_run.id AND operation.ended_at IS NULL);

-- name: ForgetManyRuns :exec
DELETE FROM bulk_run
WHERE CAST(sqlc.arg(kept) AS BIGINT) <= (
        SELECT COUNT(*) FROM bulk_run AS newer
        WHERE newer.datacenter_id = bulk_run.datacenter_id AND newer.user_id = bulk_run.user_id
            AND (newer.created_at > bulk_run.created_at OR (newer.created_at = bulk_run.created_at AND newer.id > bulk_run.id))
    )
    AND NOT EXISTS (SELECT 1 FROM operation WHERE operation.bulk_id = bulk_run.id AND operation.ended_at IS NULL);
