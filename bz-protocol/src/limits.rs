//! Every limit and timer of the protocol, in one place; `docs/protocol.md` lists the same.

use std::time::Duration;

/// Bytes of one frame's payload.
pub const MAX_PAYLOAD: usize = 64 << 10;
/// Bytes of one packet: the largest is a `Syn` with its certificate.
pub const MAX_PACKET: usize = 136 << 10;
/// Payload bytes a peer may send before they are credited: per session.
pub const SESSION_CREDIT: u64 = 1 << 20;
/// Payload bytes a peer may send before they are credited: per stream.
pub const STREAM_CREDIT: u64 = 256 << 10;
/// Frames kept for retransmission; a sender waits beyond it.
pub const MAX_UNACKED: usize = 8192;
/// Bytes of such frames: what an honest peer's credit never reaches, whatever it grants.
pub const MAX_UNACKED_BYTES: u64 = 2 << 20;
/// Bytes of a segment that may wait for the server's word that they are recorded.
pub const SEGMENT_CREDIT: u64 = 256 << 10;
/// Streams that a session may have open at once, beside those that are there from the start.
pub const MAX_STREAMS: u32 = 256;
/// Frames under one key.
pub const FRAMES_PER_KEY: u64 = 1 << 20;

/// Unsigned payload bytes after which a checkpoint is made.
pub const CHECKPOINT_BYTES: u64 = 1 << 20;
/// Time with unsigned traffic after which a checkpoint is made.
pub const CHECKPOINT_TIME: Duration = Duration::from_secs(1);
/// Typed lines are signed at most this often.
pub const CHECKPOINT_LINE: Duration = Duration::from_millis(50);
/// Unsigned payload bytes that a receiver takes: one frame more than a sender may leave unsigned.
pub const UNSIGNED_BYTES: u64 = CHECKPOINT_BYTES + MAX_PAYLOAD as u64;
/// Checkpoints in one second above which the peer misbehaves. Those that cover [`CHECKPOINT_BYTES`] do not count: they
/// are owed at any speed.
pub const MAX_CHECKPOINTS: u32 = 100;
/// Checkpoints that may arrive at once after a silence: what honest ends signed while a carrier stood still.
pub const CHECKPOINT_BURST: u32 = 12_000;

/// How long an acknowledgement may wait for company.
pub const ACK_DELAY: Duration = Duration::from_millis(25);
/// Received frames that are acknowledged at once.
pub const ACK_FRAMES: u64 = 32;
/// Received bytes that are acknowledged at once.
pub const ACK_BYTES: u64 = 128 << 10;

/// How long either end waits for the handshake to go on.
pub const HANDSHAKE: Duration = Duration::from_secs(30);
/// How long a session without a detached state waits for its client's carrier.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// How long before the end of its login an attached person is asked to log in again.
pub const LOGIN_WARNING: Duration = Duration::from_secs(600);
/// How long an agent waits for the client's answer to its signed end, while there is a carrier.
pub const LINGER: Duration = Duration::from_secs(10);
/// Keepalive on every link, both ways.
pub const KEEPALIVE: Duration = Duration::from_secs(20);
/// A link without a word for this long is dead: two keepalives missed.
pub const LINK_DEAD: Duration = Duration::from_secs(50);

/// How long a carrier has the race for itself before the next one starts.
pub const HEAD_START: Duration = Duration::from_millis(150);

/// The protocol's versions this program speaks, newest first.
pub const VERSIONS: &[u16] = &[1];
/// The suites this program speaks: P-256, HKDF-SHA256, AES-256-GCM.
pub const SUITES: &[u16] = &[1];

/// Streams on one link that is multiplexed by us.
pub const MAX_LINK_STREAMS: usize = 4096;
/// Bytes of a stream under way on such a link.
pub const MUX_CREDIT: usize = 256 << 10;
/// Bytes of one message on such a link: what a keystroke waits for at most.
pub const MUX_MESSAGE: usize = 16 << 10;
