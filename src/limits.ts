/**
 * Every bound in the system, each with its reason. A bound that a user may change has its default here and
 * its setting in `config`. Units are in the name (`_MS`, `_BYTES`) or said.
 */

const KiB = 1024
const MiB = 1024 * KiB

// ── Tunnel: before it has proved itself ─────────────────────────────────────────────────────────────────

/** A tunnel must prove itself before it costs more than this. One TLS 1.3 handshake fits ten times over a 500 ms link. */
export const HANDSHAKE_MS = 10_000
/** What a peer may send before `welcome`: one control message. */
export const UNAUTHENTICATED_BYTES = 64 * KiB
/** Connections to the tunnel port that are not yet a tunnel: at ≈40 KiB of TLS state each, 40 MiB. */
export const UNAUTHENTICATED_CONNECTIONS = 1024
/** The same per address (IPv6: /64): a whole office behind one NAT may redial at once, a flood from one host may not fill the table. */
export const UNAUTHENTICATED_PER_ADDRESS = 128

// ── Tunnel: liveness and control ────────────────────────────────────────────────────────────────────────

/** Seconds of silence before a ping: dead in twice that, 10 s. A peer's wish is clamped to MIN..MAX. */
export const KEEPALIVE_SECONDS = 5
export const KEEPALIVE_SECONDS_MIN = 1
export const KEEPALIVE_SECONDS_MAX = 10
/** An older tunnel of an instance that dials again is asked at once; silent this long, it gets no new streams. */
export const PROBE_MS = 2_000
/** One control message. 400 services of the longest names fit. */
export const CONTROL_MESSAGE_BYTES = 64 * KiB
/** What a `hello` or `welcome` may fill of it: with lengths and frame headers it must stay under UNAUTHENTICATED_BYTES. */
export const HELLO_BYTES = 60 * KiB
/** A name, host, path or id in a control message: a DNS name's 253 fit. What each may hold is the gateway's to say. */
export const CONTROL_TEXT_CHARACTERS = 255
/** A service's URL: scheme, the longest host, port and path. */
export const URL_CHARACTERS = 1_024
/** A stream's PROXY header, from either side: every TLV at its longest takes a quarter of it. */
export const PROXY_HEADER_BYTES = 4 * KiB
/** Unsent control bytes to a peer that does not read them; past it the tunnel ends. */
export const CONTROL_QUEUE_BYTES = 256 * KiB
/** Control messages per second a peer may send, and at once: a real one sends a handful per hour, `unreached` apart. */
export const CONTROL_MESSAGES_PER_SECOND = 1_000
export const CONTROL_MESSAGES_BURST = 5_000
/** Services that one tunnel may register. */
export const SERVICES_PER_TUNNEL = 1_000
/** Ports tried for a service that named none, when other programs sit on them. */
export const PORT_TRIES = 64
/** Longest pause before dialling again that a gateway may ask for. */
export const RETRY_AFTER_SECONDS_MAX = 300
/** Longest drain that a peer or user may ask for. */
export const DRAIN_MS_MAX = 600_000
export const DRAIN_MS = 30_000
/** Tunnels that a client keeps to one configured gateway (its workers); past it one warning. */
export const TUNNELS_PER_GATEWAY = 64
/** An orderly close waits this long for its last bytes to leave. */
export const ORDERLY_CLOSE_MS = 2_000
/** Text from a peer or visitor, in characters, when it is printed. */
export const PEER_TEXT_CHARACTERS = 200

// ── Mux ─────────────────────────────────────────────────────────────────────────────────────────────────

/** What plain yamux grants each new stream; a peer that states no `streamWindow` is counted at this. */
export const YAMUX_WINDOW_BYTES = 256 * KiB
/** The least first window that a peer may state: below it headers alone would stall. */
export const STREAM_WINDOW_MIN_BYTES = 4 * KiB
/** First window of a stream: 5 000 stalled visitors hold 320 MB at most, not 1.3 GB. */
export const STREAM_WINDOW_BYTES = 64 * KiB
/** Fills 500 Mbit/s over a 100 ms round trip (6.3 MB); past it one slow visitor would hold memory meant for many. */
export const STREAM_WINDOW_MAX_BYTES = 8 * MiB
/** Window granted beyond the first one, over all streams of a tunnel: eight downloads at full window. */
export const TUNNEL_WINDOW_MAX_BYTES = 64 * MiB
/** A frame's payload: with its 12-byte header it fills one TLS record of 16 KiB. */
export const FRAME_PAYLOAD_BYTES = 16 * KiB - 12
/** Bytes a stream queues before `write` says to wait: what one read of a socket brings. */
export const STREAM_QUEUE_BYTES = 64 * KiB
/** Bytes handed to the tunnel's socket at a time: more would only delay the small stream behind them. */
export const TUNNEL_WRITE_BYTES = 256 * KiB
/** Streams opened and not yet acknowledged; the value of hashicorp/yamux, whose accept queue overflows past it. */
export const UNACKNOWLEDGED_STREAMS = 256
/** Live streams of one tunnel. */
export const STREAMS_PER_TUNNEL = 65_536
/** Stream ids at which a tunnel is replaced: 2³⁰ of 2³¹, a year at 60 visitors/s. */
export const STREAM_ID_DRAIN = 2 ** 30
/** Frames that carry nothing (pings, empty data, empty window updates) per second, and at once. */
export const EMPTY_FRAMES_PER_SECOND = 100
export const EMPTY_FRAMES_BURST = 1_000
/** Closed stream ids remembered with the window that their peer may still use up. */
export const CLOSED_STREAMS_REMEMBERED = 4_096
/** Stream ids that a peer may leave out and use later: it opens concurrently, at most UNACKNOWLEDGED_STREAMS at once. */
export const SKIPPED_STREAM_IDS = UNACKNOWLEDGED_STREAMS
/** Resets that wait for the tunnel's socket: a peer that opens streams and reads no answer gets no further. */
export const PENDING_RESETS = 65_536
/** Pauses before the pings that measure a young tunnel's round trip. */
export const RTT_FIRST_PINGS_MS = [0, 100, 300, 600] as const
/** Pause between the pings by which a bulk transfer measures the round trip, and how many samples count. */
export const RTT_PING_MS = 10_000
export const RTT_SAMPLES = 8
/** A stream whose owner took nothing for this long is reset before slow ones when memory runs out. */
export const STALLED_MS = 1_000
/** Streams that just woke may go before the others this many times in a row: small beats bulk, and bulk still moves. */
export const NEW_STREAMS_IN_A_ROW = 32
/** A payload shorter than this is copied behind its header; passing it on as a buffer of its own costs more. */
export const MUX_COPY_BYTES = 4 * KiB
/** Headers and copied payloads are laid into buffers of this size, shared by all tunnels. */
export const MUX_SLAB_BYTES = 64 * KiB

// ── Visitors ────────────────────────────────────────────────────────────────────────────────────────────

/** A visitor of a route whose client is away waits this long. */
export const HOLD_MS = 10_000
/** Only routes that were live this recently hold their visitors; longer absent, they get an answer at once. */
export const HOLD_RECENT_MS = 600_000
/** Read from a held visitor, so that its leaving is seen, and kept for another try until an answer begins. */
export const HELD_BYTES = 16 * KiB
/**
 * Held at once. One that floods may bring one read of Node's, 64 KiB, before it is paused: 80 MiB in all at worst,
 * from at least five addresses (IPv6: /64); one that sends a request costs what it sends.
 */
export const HELD_VISITORS = 1_280
export const HELD_PER_ROUTE = 1_024
