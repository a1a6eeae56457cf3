// Package seal owns secrets at rest: it encrypts what Berth must keep (a session's Proxmox ticket, later API tokens) and
// opens it again, with a key that lies in a file of its own beside the database.
//
// Every ciphertext is bound to the one place where it belongs, so that a ciphertext moved to another row or column does
// not open. The package does not know what it seals, and stores nothing but the key.
//
// # Rotation
//
// Rotate replaces the key while other processes go on to seal and open with the same file. It takes these steps, each of
// which leaves a file and a store that work, so that it can end at any point, by a power cut too. What the file holds
// says how far it came, and the next Rotate goes on from there.
//
//	file {old*}       before; * marks the key that secrets are sealed with
//	file {old*, new}  the new key is in the file, and nothing is sealed with it yet
//	file {old, new*}  secrets are sealed with the new key from now on
//	                  all that the store holds is sealed anew; passes go on until one finds nothing of the old key
//	file {new*}       the old key is retired
//
// The file is replaced by a rename: whoever reads it finds one of these states, whole. Sealers need no telling. They look
// at the file each time they seal, so that none uses a key which the file does not say to use; and when something does
// not open they look whether the file has become another.
//
// A secret that was sealed before the third state and reaches the store after the last pass would be lost. Therefore
// secrets are stored through Sealer.Keep, which looks at the file once more after storing, and stores the secret sealed
// anew if the key has changed.
//
// Rows are replaced by comparing the old ciphertext, never by what was read earlier, so that a ticket renewed in between
// is not overwritten. Whoever holds a ciphertext in memory reads it again when it does not open any more
// (session.Registry does).
//
// A copy of the database from before a rotation opens with a copy of the key file from before it.
package seal
