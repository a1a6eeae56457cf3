-- name: CreateIdentity :execrows
INSERT INTO identity (datacenter_id, user_id, created_at, last_sign_in_at)
VALUES (sqlc.arg(datacenter_id), sqlc.arg(user_id), sqlc.arg(created_at), sqlc.arg(last_sign_in_at))
ON CONFLICT (datacenter_id, user_id) DO NOTHING;

-- name: LastSignIn :one
SELECT last_sign_in_at FROM identity WHERE datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id);

-- name: NoteSignIn :execrows
UPDATE identity SET last_sign_in_at = sqlc.arg(at)
WHERE datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id);

-- Whoever has nothing here but the node that they were welcomed with: no session, no token, nothing under way or to be told.
-- name: IdleIdentities :many
SELECT i.datacenter_id, i.user_id FROM identity i
WHERE i.last_sign_in_at < sqlc.arg(before)
    AND NOT EXISTS (SELECT 1 FROM node o WHERE o.datacenter_id = i.datacenter_id AND o.user_id = i.user_id
        AND (o.credential <> 'session' OR o.created_at <> i.created_at))
    AND NOT EXISTS (SELECT 1 FROM session o WHERE o.datacenter_id = i.datacenter_id AND o.user_id = i.user_id)
    AND NOT EXISTS (SELECT 1 FROM access_token o WHERE o.datacenter_id = i.datacenter_id AND o.user_id = i.user_id)
    AND NOT EXISTS (SELECT 1 FROM api_token o WHERE o.datacenter_id = i.datacenter_id AND o.user_id = i.user_id)
    AND NOT EXISTS (SELECT 1 FROM operation o WHERE o.datacenter_id = i.datacenter_id AND o.user_id = i.user_id)
    AND NOT EXISTS (SELECT 1 FROM bulk_run o WHERE o.datacenter_id = i.datacenter_id AND o.user_id = i.user_id)
ORDER BY i.last_sign_in_at LIMIT sqlc.arg(most);

-- name: DeleteNodesOf :exec
DELETE FROM node WHERE datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id);

-- name: DeleteIdentity :exec
DELETE FROM identity WHERE datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id);

-- name: Preferences :one
SELECT preferences FROM identity WHERE datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id);

-- name: SetPreferences :execrows
UPDATE identity SET preferences = sqlc.arg(preferences)
WHERE datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id);

-- name: Nodes :many
SELECT * FROM node
WHERE datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id)
ORDER BY is_default DESC, name_key;

-- name: NodeOf :one
SELECT * FROM node
WHERE id = sqlc.arg(id) AND datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id);

-- name: CountNodes :one
SELECT COUNT(*) FROM node WHERE datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id);

-- name: NodeNamed :one
SELECT id FROM node
WHERE datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id) AND name_key = sqlc.arg(name_key);

-- name: CreateNode :exec
INSERT INTO node (
    id, datacenter_id, user_id, name, name_key, host, port, login_host_id, credential, key_pin, fingerprint, members,
    cluster_id, group_id, is_default, token_id, secret, token_expires_at, created_at
) VALUES (
    sqlc.arg(id), sqlc.arg(datacenter_id), sqlc.arg(user_id), sqlc.arg(name), sqlc.arg(name_key), sqlc.arg(host),
    sqlc.arg(port), sqlc.narg(login_host_id), sqlc.arg(credential), sqlc.arg(key_pin), sqlc.arg(fingerprint),
    sqlc.arg(members), sqlc.arg(cluster_id), sqlc.arg(group_id), sqlc.arg(is_default), sqlc.arg(token_id),
    sqlc.arg(secret), sqlc.arg(token_expires_at), sqlc.arg(created_at)
);

-- What is the default is changed by the two queries below alone.
-- name: ChangeNode :execrows
UPDATE node SET
    name = sqlc.arg(name), name_key = sqlc.arg(name_key), host = sqlc.arg(host), port = sqlc.arg(port),
    login_host_id = sqlc.narg(login_host_id), credential = sqlc.arg(credential), key_pin = sqlc.arg(key_pin),
    fingerprint = sqlc.arg(fingerprint), members = sqlc.arg(members), cluster_id = sqlc.arg(cluster_id),
    group_id = sqlc.arg(group_id), token_id = sqlc.arg(token_id), secret = sqlc.arg(secret),
    token_expires_at = sqlc.arg(token_expires_at), version = version + 1
WHERE id = sqlc.arg(id) AND datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id)
    AND version = sqlc.arg(version);

-- name: RenameNode :execrows
UPDATE node SET name = sqlc.arg(name), name_key = sqlc.arg(name_key), version = version + 1
WHERE id = sqlc.arg(id) AND datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id);

-- name: NoteMembers :exec
UPDATE node SET fingerprint = sqlc.arg(fingerprint), members = sqlc.arg(members)
WHERE id = sqlc.arg(id) AND datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id)
    AND host = sqlc.arg(host) AND port = sqlc.arg(port);

-- name: NoDefaultNode :exec
UPDATE node SET is_default = FALSE
WHERE datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id) AND is_default;

-- name: MakeDefaultNode :execrows
UPDATE node SET is_default = TRUE
WHERE id = sqlc.arg(id) AND datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id);

-- name: DeleteNode :execrows
DELETE FROM node
WHERE id = sqlc.arg(id) AND datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id);

-- name: NodesWithKey :many
SELECT * FROM node WHERE key_pin = sqlc.arg(key_pin);

-- name: NodesWithFingerprint :many
SELECT * FROM node WHERE fingerprint = sqlc.arg(fingerprint);

-- name: DatacentersWithKey :many
SELECT DISTINCT datacenter_id FROM login_host WHERE key_pin = sqlc.arg(key_pin) ORDER BY datacenter_id;

-- The nodes that go by the session's ticket stay what their datacenter is.
-- name: JoinCluster :exec
UPDATE node SET cluster_id = sqlc.arg(into), version = version + 1
WHERE cluster_id = sqlc.arg(cluster_id) AND credential <> 'session';

-- name: GroupNode :execrows
UPDATE node SET group_id = sqlc.arg(group_id), version = version + 1
WHERE id = sqlc.arg(id) AND datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id);

-- name: SealedNodes :many
SELECT id, secret FROM node WHERE id > sqlc.arg(behind) AND secret IS NOT NULL ORDER BY id LIMIT sqlc.arg(most);

-- name: ResealNode :exec
UPDATE node SET secret = sqlc.arg(fresh) WHERE id = sqlc.arg(id) AND secret = sqlc.arg(old);

-- name: CreateAPIToken :exec
INSERT INTO api_token (
    id, datacenter_id, user_id, node_id, node_name, host, port, login_host_id, key_pin, token_id, state, created_at, expires_at
) VALUES (
    sqlc.arg(id), sqlc.arg(datacenter_id), sqlc.arg(user_id), sqlc.arg(node_id), sqlc.arg(node_name), sqlc.arg(host),
    sqlc.arg(port), sqlc.narg(login_host_id), sqlc.arg(key_pin), sqlc.arg(token_id), sqlc.arg(state),
    sqlc.arg(created_at), sqlc.arg(expires_at)
);

-- name: APITokens :many
SELECT * FROM api_token
WHERE datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id)
ORDER BY created_at, id;

-- name: SetAPITokenState :execrows
UPDATE api_token SET state = sqlc.arg(state)
WHERE id = sqlc.arg(id) AND datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id);

-- name: SetAPITokenExpiry :exec
UPDATE api_token SET expires_at = sqlc.arg(expires_at)
WHERE node_id = sqlc.arg(node_id) AND token_id = sqlc.arg(token_id) AND datacenter_id = sqlc.arg(datacenter_id)
    AND user_id = sqlc.arg(user_id);

-- name: SetNodeTokenExpiry :execrows
UPDATE node SET token_expires_at = sqlc.arg(expires_at)
WHERE id = sqlc.arg(id) AND token_id = sqlc.arg(token_id) AND datacenter_id = sqlc.arg(datacenter_id)
    AND user_id = sqlc.arg(user_id);

-- What a node used before counts as left over, but for the token that it goes on to use.
-- name: LeaveAPITokens :exec
UPDATE api_token SET state = 'left_over'
WHERE node_id = sqlc.arg(node_id) AND state = 'active' AND token_id <> sqlc.arg(keep)
    AND datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id);

-- name: DeleteAPIToken :execrows
DELETE FROM api_token
WHERE id = sqlc.arg(id) AND datacenter_id = sqlc.arg(datacenter_id) AND user_id = sqlc.arg(user_id);
