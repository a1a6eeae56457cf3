package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"berth/internal/node"
	"berth/internal/pve"
	"berth/internal/session"
	"berth/internal/store/db"
)

// Welcome implements node.Store.
func (s *Store) Welcome(ctx context.Context, first node.Record, signedIn time.Time) (made bool, err error) {
	// Nearly always the identity is there already, and nothing needs to be written.
	if _, err := s.LastSignIn(ctx, first.Owner); !errors.Is(err, node.ErrNoIdentity) {
		return false, err
	}
	err = s.inTransaction(ctx, func(tx *sql.Tx) error {
		n, err := s.queries.CreateIdentity(ctx, tx, db.CreateIdentityParams{
			DatacenterID: first.Owner.Datacenter, UserID: first.Owner.UserID,
			CreatedAt: first.Created.UnixMilli(), LastSignInAt: signedIn.UnixMilli(),
		})
		if made = n > 0; err != nil || !made {
			return err
		}
		return s.insertNode(ctx, tx, first)
	})
	return made && err == nil, err
}

// NoteSignIn implements node.Store.
func (s *Store) NoteSignIn(ctx context.Context, of session.Identity, at time.Time) error {
	n, err := s.queries.NoteSignIn(ctx, s.writer, db.NoteSignInParams{At: at.UnixMilli(), DatacenterID: of.Datacenter, UserID: of.UserID})
	return orNone(n, err, node.ErrNoIdentity)
}

// LastSignIn implements node.Store.
func (s *Store) LastSignIn(ctx context.Context, of session.Identity) (time.Time, error) {
	at, err := s.queries.LastSignIn(ctx, s.reader, db.LastSignInParams{DatacenterID: of.Datacenter, UserID: of.UserID})
	if errors.Is(err, sql.ErrNoRows) {
		return time.Time{}, node.ErrNoIdentity
	}
	return fromMillis(at), err
}

// RemoveIdle implements node.Store.
func (s *Store) RemoveIdle(ctx context.Context, before time.Time, most int) (removed []session.Identity, err error) {
	which := db.IdleIdentitiesParams{Before: before.UnixMilli(), Most: int64(most)}
	// Nearly always there is none, and nothing needs to be written.
	if idle, err := s.queries.IdleIdentities(ctx, s.reader, which); err != nil || len(idle) == 0 {
		return nil, err
	}
	err = s.inTransaction(ctx, func(tx *sql.Tx) error {
		removed = nil
		idle, err := s.queries.IdleIdentities(ctx, tx, which)
		if err != nil {
			return err
		}
		for _, i := range idle {
			of := session.Identity{Datacenter: i.DatacenterID, UserID: i.UserID}
			if err := s.queries.DeleteNodesOf(ctx, tx, db.DeleteNodesOfParams{DatacenterID: of.Datacenter, UserID: of.UserID}); err != nil {
				return err
			}
			if err := s.queries.DeleteIdentity(ctx, tx, db.DeleteIdentityParams{DatacenterID: of.Datacenter, UserID: of.UserID}); err != nil {
				return err
			}
			removed = append(removed, of)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return removed, nil
}

// Preferences implements node.Store.
func (s *Store) Preferences(ctx context.Context, of session.Identity) (string, error) {
	text, err := s.queries.Preferences(ctx, s.reader, db.PreferencesParams{DatacenterID: of.Datacenter, UserID: of.UserID})
	if errors.Is(err, sql.ErrNoRows) {
		return "", node.ErrNoIdentity
	}
	return text, err
}

// SetPreferences implements node.Store.
func (s *Store) SetPreferences(ctx context.Context, of session.Identity, text string) error {
	n, err := s.queries.SetPreferences(ctx, s.writer, db.SetPreferencesParams{
		Preferences: text, DatacenterID: of.Datacenter, UserID: of.UserID,
	})
	return orNone(n, err, node.ErrNoIdentity)
}

// Nodes implements node.Store.
func (s *Store) Nodes(ctx context.Context, of session.Identity) ([]node.Record, error) {
	rows, err := s.queries.Nodes(ctx, s.reader, db.NodesParams{DatacenterID: of.Datacenter, UserID: of.UserID})
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		if _, err := s.LastSignIn(ctx, of); err != nil {
			return nil, err
		}
	}
	return nodes(rows)
}

// CreateNode implements node.Store.
func (s *Store) CreateNode(ctx context.Context, r node.Record, made string, most int) error {
	of := r.Owner
	if _, err := s.LastSignIn(ctx, of); err != nil {
		return err
	}
	return s.inTransaction(ctx, func(tx *sql.Tx) error {
		count, err := s.queries.CountNodes(ctx, tx, db.CountNodesParams{DatacenterID: of.Datacenter, UserID: of.UserID})
		if err != nil {
			return err
		}
		if count >= int64(most) {
			return node.ErrTooMany
		}
		if err := s.nameIsFree(ctx, tx, of, r.ID, r.Name); err != nil {
			return err
		}
		if r.IsDefault = r.IsDefault || count == 0; r.IsDefault {
			if err := s.queries.NoDefaultNode(ctx, tx, db.NoDefaultNodeParams{DatacenterID: of.Datacenter, UserID: of.UserID}); err != nil {
				return err
			}
		}
		if err := s.insertNode(ctx, tx, r); err != nil {
			return err
		}
		return s.useToken(ctx, tx, of, made)
	})
}

// ChangeNode implements node.Store.
func (s *Store) ChangeNode(ctx context.Context, r node.Record, made string) error {
	of := r.Owner
	return s.inTransaction(ctx, func(tx *sql.Tx) error {
		if err := s.nameIsFree(ctx, tx, of, r.ID, r.Name); err != nil {
			return err
		}
		members, err := json.Marshal(r.Members)
		if err != nil {
			return err
		}
		n, err := s.queries.ChangeNode(ctx, tx, db.ChangeNodeParams{
			Name: r.Name, NameKey: nameKey(r.Name), Host: r.Address.Host, Port: int64(r.Address.Port),
			LoginHostID: nullable(r.LoginHost), Credential: string(r.Credential), KeyPin: pinBytes(r.Key),
			Fingerprint: fingerprintBytes(r.Fingerprint), Members: string(members), ClusterID: r.Cluster, GroupID: r.SaidGroup,
			TokenID: r.TokenID, Secret: r.Secret, TokenExpiresAt: toMillis(r.TokenExpires),
			ID: r.ID, DatacenterID: of.Datacenter, UserID: of.UserID, Version: r.Version,
		})
		if err == nil && n == 0 {
			return s.lost(ctx, tx, of, r.ID)
		}
		if err != nil {
			return err
		}
		if err := s.leaveTokens(ctx, tx, of, r.ID, r.TokenID); err != nil {
			return err
		}
		return s.useToken(ctx, tx, of, made)
	})
}

// lost tells why a change met no row: the node is gone, or it is another one by now.
func (s *Store) lost(ctx context.Context, tx *sql.Tx, of session.Identity, id string) error {
	_, err := s.queries.NodeOf(ctx, tx, db.NodeOfParams{ID: id, DatacenterID: of.Datacenter, UserID: of.UserID})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return node.ErrNone
	case err != nil:
		return err
	}
	return node.ErrChanged
}

// RenameNode implements node.Store.
func (s *Store) RenameNode(ctx context.Context, of session.Identity, id, name string) error {
	return s.inTransaction(ctx, func(tx *sql.Tx) error {
		if err := s.nameIsFree(ctx, tx, of, id, name); err != nil {
			return err
		}
		n, err := s.queries.RenameNode(ctx, tx, db.RenameNodeParams{
			Name: name, NameKey: nameKey(name), ID: id, DatacenterID: of.Datacenter, UserID: of.UserID,
		})
		return orNone(n, err, node.ErrNone)
	})
}

// NoteMembers implements node.Store.
func (s *Store) NoteMembers(ctx context.Context, r node.Record) error {
	text, err := json.Marshal(r.Members)
	if err != nil {
		return err
	}
	return s.queries.NoteMembers(ctx, s.writer, db.NoteMembersParams{
		Fingerprint: fingerprintBytes(r.Fingerprint), Members: string(text), ID: r.ID, DatacenterID: r.Owner.Datacenter,
		UserID: r.Owner.UserID, Host: r.Address.Host, Port: int64(r.Address.Port),
	})
}

// RemoveNode implements node.Store.
func (s *Store) RemoveNode(ctx context.Context, of session.Identity, id string) error {
	return s.inTransaction(ctx, func(tx *sql.Tx) error {
		n, err := s.queries.DeleteNode(ctx, tx, db.DeleteNodeParams{ID: id, DatacenterID: of.Datacenter, UserID: of.UserID})
		if err := orNone(n, err, node.ErrNone); err != nil {
			return err
		}
		if err := s.leaveTokens(ctx, tx, of, id, ""); err != nil {
			return err
		}
		left, err := s.queries.Nodes(ctx, tx, db.NodesParams{DatacenterID: of.Datacenter, UserID: of.UserID})
		if err != nil || len(left) == 0 || left[0].IsDefault {
			return err
		}
		_, err = s.queries.MakeDefaultNode(ctx, tx, db.MakeDefaultNodeParams{ID: left[0].ID, DatacenterID: of.Datacenter, UserID: of.UserID})
		return err
	})
}

// SetDefaultNode implements node.Store.
func (s *Store) SetDefaultNode(ctx context.Context, of session.Identity, id string) error {
	return s.inTransaction(ctx, func(tx *sql.Tx) error {
		if err := s.queries.NoDefaultNode(ctx, tx, db.NoDefaultNodeParams{DatacenterID: of.Datacenter, UserID: of.UserID}); err != nil {
			return err
		}
		n, err := s.queries.MakeDefaultNode(ctx, tx, db.MakeDefaultNodeParams{ID: id, DatacenterID: of.Datacenter, UserID: of.UserID})
		return orNone(n, err, node.ErrNone)
	})
}

// GroupNodes implements node.Store.
func (s *Store) GroupNodes(ctx context.Context, of session.Identity, group string, ids ...string) error {
	return s.inTransaction(ctx, func(tx *sql.Tx) error {
		for _, id := range ids {
			n, err := s.queries.GroupNode(ctx, tx, db.GroupNodeParams{GroupID: group, ID: id, DatacenterID: of.Datacenter, UserID: of.UserID})
			if err := orNone(n, err, node.ErrNone); err != nil {
				return err
			}
		}
		return nil
	})
}

// maxShowing bounds how many nodes are compared with a new one.
const maxShowing = 1000

// NodesShowing implements node.Store.
func (s *Store) NodesShowing(ctx context.Context, key *pve.KeyPin, shown []pve.Fingerprint) ([]node.Record, error) {
	var rows []db.Node
	seen := map[string]bool{}
	add := func(found []db.Node, err error) error {
		for _, row := range found {
			if !seen[row.ID] && len(rows) < maxShowing {
				seen[row.ID] = true
				rows = append(rows, row)
			}
		}
		return err
	}
	if key != nil {
		if err := add(s.queries.NodesWithKey(ctx, s.reader, key[:])); err != nil {
			return nil, err
		}
	}
	for _, f := range shown {
		if err := add(s.queries.NodesWithFingerprint(ctx, s.reader, f[:])); err != nil {
			return nil, err
		}
	}
	return nodes(rows)
}

// DatacentersPinning implements node.Store.
func (s *Store) DatacentersPinning(ctx context.Context, key pve.KeyPin) ([]string, error) {
	return s.queries.DatacentersWithKey(ctx, s.reader, key[:])
}

// JoinClusters implements node.Store.
func (s *Store) JoinClusters(ctx context.Context, into string, from []string) error {
	return s.inTransaction(ctx, func(tx *sql.Tx) error {
		for _, cluster := range from {
			if err := s.queries.JoinCluster(ctx, tx, db.JoinClusterParams{Into: into, ClusterID: cluster}); err != nil {
				return err
			}
			if err := s.queries.JoinOperations(ctx, tx, db.JoinOperationsParams{Into: into, ClusterID: cluster}); err != nil {
				return err
			}
		}
		return nil
	})
}

// BeginToken implements node.Store.
func (s *Store) BeginToken(ctx context.Context, t node.MadeToken) error {
	return s.queries.CreateAPIToken(ctx, s.writer, db.CreateAPITokenParams{
		ID: t.ID, DatacenterID: t.Owner.Datacenter, UserID: t.Owner.UserID, NodeID: t.NodeID, NodeName: t.NodeName,
		Host: t.Address.Host, Port: int64(t.Address.Port), LoginHostID: nullable(t.LoginHost), KeyPin: pinBytes(t.Key),
		TokenID: t.TokenID, State: string(node.TokenPending), CreatedAt: t.Created.UnixMilli(), ExpiresAt: toMillis(t.Expires),
	})
}

// MadeTokens implements node.Store.
func (s *Store) MadeTokens(ctx context.Context, of session.Identity) ([]node.MadeToken, error) {
	rows, err := s.queries.APITokens(ctx, s.reader, db.APITokensParams{DatacenterID: of.Datacenter, UserID: of.UserID})
	if err != nil {
		return nil, err
	}
	tokens := make([]node.MadeToken, 0, len(rows))
	for _, row := range rows {
		key, err := pin(row.KeyPin)
		if err != nil {
			return nil, fmt.Errorf("token %s: %w", row.ID, err)
		}
		tokens = append(tokens, node.MadeToken{
			ID: row.ID, Owner: session.Identity{Datacenter: row.DatacenterID, UserID: row.UserID},
			NodeID: row.NodeID, NodeName: row.NodeName, Address: pve.Address{Host: row.Host, Port: int(row.Port)},
			LoginHost: row.LoginHostID.String, Key: key, TokenID: row.TokenID, State: node.TokenState(row.State),
			Created: fromMillis(row.CreatedAt), Expires: orZero(row.ExpiresAt),
		})
	}
	return tokens, nil
}

// LeaveToken implements node.Store.
func (s *Store) LeaveToken(ctx context.Context, of session.Identity, id string) error {
	return s.setTokenState(ctx, s.writer, of, id, node.TokenLeftOver)
}

// DropToken implements node.Store.
func (s *Store) DropToken(ctx context.Context, of session.Identity, id string) error {
	n, err := s.queries.DeleteAPIToken(ctx, s.writer, db.DeleteAPITokenParams{ID: id, DatacenterID: of.Datacenter, UserID: of.UserID})
	return orNone(n, err, node.ErrNone)
}

// ExtendToken implements node.Store.
func (s *Store) ExtendToken(ctx context.Context, of session.Identity, nodeID, tokenID string, expires time.Time) error {
	return s.inTransaction(ctx, func(tx *sql.Tx) error {
		n, err := s.queries.SetNodeTokenExpiry(ctx, tx, db.SetNodeTokenExpiryParams{
			ExpiresAt: toMillis(expires), ID: nodeID, TokenID: tokenID, DatacenterID: of.Datacenter, UserID: of.UserID,
		})
		if err := orNone(n, err, node.ErrNone); err != nil {
			return err
		}
		return s.queries.SetAPITokenExpiry(ctx, tx, db.SetAPITokenExpiryParams{
			ExpiresAt: toMillis(expires), NodeID: nodeID, TokenID: tokenID, DatacenterID: of.Datacenter, UserID: of.UserID,
		})
	})
}

func (s *Store) setTokenState(ctx context.Context, on db.DBTX, of session.Identity, id string, state node.TokenState) error {
	n, err := s.queries.SetAPITokenState(ctx, on, db.SetAPITokenStateParams{
		State: string(state), ID: id, DatacenterID: of.Datacenter, UserID: of.UserID,
	})
	return orNone(n, err, node.ErrNone)
}

// useToken makes the pending token active that a node uses from now on; empty for none.
func (s *Store) useToken(ctx context.Context, tx *sql.Tx, of session.Identity, made string) error {
	if made == "" {
		return nil
	}
	return s.setTokenState(ctx, tx, of, made, node.TokenActive)
}

// leaveTokens leaves the tokens over that a node used, but for the one that it goes on to use.
func (s *Store) leaveTokens(ctx context.Context, tx *sql.Tx, of session.Identity, nodeID, keep string) error {
	return s.queries.LeaveAPITokens(ctx, tx, db.LeaveAPITokensParams{NodeID: nodeID, Keep: keep, DatacenterID: of.Datacenter, UserID: of.UserID})
}

// nameIsFree returns ErrNameTaken if another node of the same owner has the name.
func (s *Store) nameIsFree(ctx context.Context, tx *sql.Tx, of session.Identity, id, name string) error {
	other, err := s.queries.NodeNamed(ctx, tx, db.NodeNamedParams{
		DatacenterID: of.Datacenter, UserID: of.UserID, NameKey: nameKey(name),
	})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err == nil && other != id:
		return node.ErrNameTaken
	}
	return err
}

func (s *Store) insertNode(ctx context.Context, tx *sql.Tx, r node.Record) error {
	members, err := json.Marshal(r.Members)
	if err != nil {
		return err
	}
	return s.queries.CreateNode(ctx, tx, db.CreateNodeParams{
		ID: r.ID, DatacenterID: r.Owner.Datacenter, UserID: r.Owner.UserID, Name: r.Name, NameKey: nameKey(r.Name),
		Host: r.Address.Host, Port: int64(r.Address.Port), LoginHostID: nullable(r.LoginHost), Credential: string(r.Credential),
		KeyPin: pinBytes(r.Key), Fingerprint: fingerprintBytes(r.Fingerprint), Members: string(members),
		ClusterID: r.Cluster, GroupID: r.SaidGroup, IsDefault: r.IsDefault, TokenID: r.TokenID, Secret: r.Secret,
		TokenExpiresAt: toMillis(r.TokenExpires), CreatedAt: r.Created.UnixMilli(),
	})
}

// nameKey is what tells names apart.
func nameKey(name string) string { return strings.ToLower(name) }

// orNone is none for a change that met no row.
func orNone(rows int64, err, none error) error {
	if err == nil && rows == 0 {
		return none
	}
	return err
}

func nullable(id string) sql.NullString { return sql.NullString{String: id, Valid: id != ""} }

// toMillis is 0 for the zero time, which orZero takes back.
func toMillis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func orZero(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return fromMillis(ms)
}

func fingerprintBytes(f pve.Fingerprint) []byte {
	if f == (pve.Fingerprint{}) {
		return nil
	}
	return f[:]
}

// pin reads a pin, nil for none. One that can't be read must never become "no pin".
func pin(raw []byte) (*pve.KeyPin, error) {
	if raw == nil {
		return nil, nil
	}
	var key pve.KeyPin
	if len(raw) != len(key) {
		return nil, fmt.Errorf("a pin of %d bytes", len(raw))
	}
	copy(key[:], raw)
	return &key, nil
}

func nodes(rows []db.Node) ([]node.Record, error) {
	records := make([]node.Record, 0, len(rows))
	for _, row := range rows {
		r, err := nodeRecord(row)
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", row.ID, err)
		}
		records = append(records, r)
	}
	return records, nil
}

func nodeRecord(row db.Node) (node.Record, error) {
	r := node.Record{
		Node: node.Node{
			ID: row.ID, Owner: session.Identity{Datacenter: row.DatacenterID, UserID: row.UserID}, Name: row.Name,
			Address: pve.Address{Host: row.Host, Port: int(row.Port)}, Credential: node.Credential(row.Credential),
			LoginHost: row.LoginHostID.String, TokenID: row.TokenID, TokenExpires: orZero(row.TokenExpiresAt),
			Cluster: row.ClusterID, IsDefault: row.IsDefault, Created: fromMillis(row.CreatedAt),
		},
		Secret: row.Secret, SaidGroup: row.GroupID, Version: row.Version,
	}
	var err, unreadable error
	r.Key, err = pin(row.KeyPin)
	if row.Fingerprint != nil && copy(r.Fingerprint[:], row.Fingerprint) != len(r.Fingerprint) {
		unreadable = fmt.Errorf("a fingerprint of %d bytes", len(row.Fingerprint))
	}
	return r, errors.Join(err, unreadable, json.Unmarshal([]byte(row.Members), &r.Members))
}
