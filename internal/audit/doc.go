// Package audit owns the trail of what people did and tried: who, from where, what, on what, with what result, and under
// which error id the log has the cause.
//
// The trail is only ever added to. An entry goes when it is older than the operator keeps entries (90 days unless they
// say otherwise), never earlier by anybody's wish, but for refused sign-ins, of which there are bounds.
//
// Who reads what is settled by an entry's category. Everybody reads the entries that are about themselves: what they did,
// and what others did to what is theirs. Owners also read everybody's entries about signing in, sessions, login hosts and
// keys, since those are the installation's; they never read what others did with their own nodes and containers. An action
// that names no category is its user's alone.
//
// Anybody can cause refused sign-ins, so these are bounded: beyond RefusedPerSource a minute from one address (one /64 of
// IPv6) and RefusedPerMinute from all together, attempts are counted, and one entry tells how many there were. So that
// noise does not hide what matters, an account that somebody has signed in to keeps an entry for each address it is tried
// from, out of RefusedReserve more a minute, and what is only counted is counted at that account.
//
// Of all refused sign-ins RefusedKept stay, however young the others are: of each network (Network) as many as of any other,
// the newest. So one network pushes out its own; many of them together push out what is older. The log has each attempt.
//
// The package knows neither HTTP nor the database (Store), and does not decide who is an owner (Owners).
package audit
