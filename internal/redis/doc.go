// Package redis owns what several replicas of Berth share through Redis or Valkey: sessions, sign-ins on their way, the
// counters of the throttle and short leases. It implements the small interfaces of the features (session.Store,
// auth.PendingStore, auth.OpenIDStore, auth.ThrottleStore, node.WaitingStore) and keeps their contracts, by the same suites as the stores in
// memory and in the database.
//
// Redis may forget: it is emptied, restored from an older copy, or a replica without the last writes is promoted. What is
// forgotten here signs somebody out or lets them try again, and never brings an ended session back: ends are in the
// database as well (Ends).
//
// Keys that one script works on share a hash tag, so that they lie together in a cluster:
//
//	session:<hash>                    one session, living as long as it may
//	sessions:<identity>               the sessions of an identity, by when they run out
//	{sessions}:…                      all sessions: by hash, by when they run out, by the age of their tickets
//	{pending}:…  {openid}:…           sign-ins that wait for a second factor or are at an identity provider
//	{node-sign-in}:…                  sign-ins at hosts of nodes that wait for a second factor
//	{throttle}:…                      attempts that were counted
//	lease:<what>                      who does what only one replica is to do
//
// On one channel, berth:events, replicas tell each other what has changed: by ids, never what it is now.
//
// The package does not know what a session is worth or how often something may be tried: that is the features' business.
package redis
