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
/** The value of a header that a service adds to its requests; with its name it stays a small part of a head. */
export const REWRITE_VALUE_CHARACTERS = 1_024
/** A stream's PROXY header, from either side: every TLV at its longest takes a third of it. */
export const PROXY_HEADER_BYTES = 4 * KiB
/** Unsent control bytes to a peer that does not read them; past it the tunnel ends. */
export const CONTROL_QUEUE_BYTES = 256 * KiB
/** Control messages per second a peer may send, and at once: a real one sends a handful per hour, `unreached` apart. */
export const CONTROL_MESSAGES_PER_SECOND = 1_000
export const CONTROL_MESSAGES_BURST = 5_000
/** Tunnels at once: at 160 KiB each 2.5 GiB if all are used. A key may have as many as a client has gateways' workers. */
export const TUNNELS = 16_384
export const TUNNELS_PER_KEY = 64
/** Services that a name may register, at once and per second: 5 machines of 1 000 that come back together. */
export const SERVICES_BURST = 5_000
export const SERVICES_PER_SECOND = 100
/** Services taken in a row before others get their turn; and how many of one request get a log line of their own. */
export const SERVICES_IN_A_ROW = 20
export const SERVICES_LOGGED = 8
/** Clients that a visitor is tried on; more would let one name's lying clients make much work of each visitor. */
export const TRIES_PER_VISITOR = 4
/**
 * A replica that failed gets no visitors for this long while another is there, and twice as long each time it goes on
 * failing: short enough that a target which was restarted is back at once, rare enough that a dead one costs little.
 */
export const PASSED_OVER_MS = 1_000
export const PASSED_OVER_MAX_MS = 30_000
/** Words on the health of targets, per second and at once: a client with a thousand services has them all fail together. */
export const HEALTH_PER_SECOND = 200
export const HEALTH_BURST = 2_000
/** Routes and targets that come and go get a log line of their own this often, per second and at once: an enrolled client can do it a thousand times a second. */
export const CHANGES_LOGGED_PER_SECOND = 1
export const CHANGES_LOGGED_BURST = 100
/** Services that one tunnel may register. */
export const SERVICES_PER_TUNNEL = 1_000
/** Hosts of one service: all of them, with their URLs, fit one control message. And headers that it may set in each request. */
export const HOSTS_PER_SERVICE = 64
export const REWRITE_HEADERS = 32
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
/** A revoked client is told so in this time, or just cut: its tunnel is gone within a second. */
export const REVOKED_CLOSE_MS = 500
/** Requests of one client that wait for their answers: each may open ports and write to disk, and all names wait in one line. */
export const REQUESTS_UNANSWERED = 64
/** Text from a peer or visitor, in characters, when it is printed. */
export const PEER_TEXT_CHARACTERS = 200

// ── Mux ─────────────────────────────────────────────────────────────────────────────────────────────────

/** What plain yamux grants each new stream; a peer that states no `streamWindow` is counted at this. */
export const YAMUX_WINDOW_BYTES = 256 * KiB
/** The least first window that a peer may state: below it headers alone would stall. */
export const STREAM_WINDOW_MIN_BYTES = 4 * KiB
/** First window of a stream: 5 000 stalled visitors hold 320 MB at most, not 1.3 GB. */
export const STREAM_WINDOW_BYTES = 64 * KiB
/** Fills 2.5 Gbit/s over a 100 ms round trip (31 MB); a visitor who stalls after that holds as much. */
export const STREAM_WINDOW_MAX_BYTES = 32 * MiB
/** One window is no more than this share of `memory`: 8 MiB with 1 GiB of RAM, all that there may be from 4 GiB on. */
export const WINDOW_SHARE_OF_MEMORY = 32
/** Window granted beyond the first one, over all streams of a tunnel: four downloads at full window. */
export const TUNNEL_WINDOW_MAX_BYTES = 128 * MiB
/** Granted again at the latest: a half of 32 MiB is 130 ms of 1 Gbit/s, in which a sender would have nothing to send. */
export const WINDOW_UPDATE_BYTES = 1 * MiB
/** A frame's payload: with its 12-byte header it fills one TLS record of 16 KiB. */
export const FRAME_PAYLOAD_BYTES = 16 * KiB - 12
/** Bytes a stream queues before `write` says to wait: what one read of a socket brings. */
export const STREAM_QUEUE_BYTES = 64 * KiB
/**
 * The most of them that the peer's window does not let go: one frame, at hand when it grants more. Beyond that a
 * peer that never reads would have us hold what it asked nobody for.
 */
export const STREAM_QUEUE_AHEAD_BYTES = 16 * KiB
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
/** Carried while a ping was under way: past it the answer tells of the queue more than of the path. 20 ms of 100 Mbit/s. */
export const RTT_LOADED_BYTES = 256 * KiB
/** With no other sample for so long, one under load must do. */
export const RTT_STALE_MS = 300_000
/** A stream whose owner took nothing, or whose peer gave no window, for this long is reset before slow ones when memory runs out. */
export const STALLED_MS = 1_000
/** Streams are looked through this often when memory ran out and none could go: 65 536 of them take a few milliseconds. */
export const MEMORY_SCAN_MS = 100
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
export const HELD_PER_ADDRESS = 256
/** Held visitors let go per loop turn when their client is back: a stampede would fell it again. */
export const RELEASE_PER_TURN = 32
/** Visitors in all, and per address (IPv6: /64). */
export const VISITORS = 16_384
export const VISITORS_PER_ADDRESS = 1_024
/**
 * Where there is no room for another visitor, so large a part of all goes at once, of those that ask for nothing:
 * 16 384 are looked through in 5 ms, which is 20 µs for each that is let in. Who came just now has had no time to ask. And
 * where nobody could go there is no other look for so long.
 */
export const IDLE_SHARE = 64
export const IDLE_SPARED_MS = 1_000
export const IDLE_LOOK_MS = 100
/** After an error answer, what a visitor still sends is read this long, so that the answer is not reset away. */
export const APOLOGY_LINGER_MS = 2_000
/** TCP keepalive on visitors and targets: finds a host that vanished without a word. */
export const TCP_KEEPALIVE_MS = 60_000
/** How often idle connections are looked for: a limit of seconds or minutes may be a second late. */
export const IDLE_SWEEP_MS = 1_000
/** A whole answer whose stream is gone is still given to a slow reader, until it takes nothing for this long. */
export const LINGER_MS = 30_000
/**
 * A connection of which one direction has ended goes on this long without a byte. Who half-closes waits for an answer
 * to come; who is gone looks the same, and no keepalive tells them apart. Five minutes is longer than servers compute.
 */
export const HALF_CLOSED_MS = 300_000
/** Written to a visitor's or target's socket at a time while it is slow: a first window, so that credit flows back in steps. */
export const SPLICE_WRITE_BYTES = 64 * KiB
/** Chunks shorter than this are copied together while they wait for a slow socket; views would cost more than bytes. */
export const SPLICE_COPY_BYTES = 4 * KiB
/** Read from a socket at a time, as Node reads; one such buffer serves all of them. */
export const READ_BYTES = 64 * KiB
/**
 * Short reads are copied into pieces of this: whoever has a few bytes of one kept keeps the piece. Node's own pool has
 * pieces of 8 KiB in some versions, and of 64 in others.
 */
export const READ_PIECE_BYTES = 8 * KiB
/**
 * Of a target that is talked to as a stream is: bytes read from it and not passed on, and bytes that wait for it. As much
 * as a first window, so that what an `https` visitor costs where its TLS ends is what it costs in the tunnel.
 */
export const SOCKET_STREAM_UNREAD_BYTES = 64 * KiB
export const SOCKET_STREAM_QUEUE_BYTES = 64 * KiB
/** Idle `http` visitors are let go; `tcp` ones never unless the service says so. */
export const HTTP_IDLE_MS = 600_000
/**
 * Connections that the kernel keeps until they are accepted; it takes no more than `net.core.somaxconn`, which is this
 * much by default. Past it whoever connects waits a second for another try: Node's 511 are fewer than one burst of
 * visitors, or of silent strangers who come before a client.
 */
export const LISTEN_BACKLOG = 4_096
/** Descriptors that visitors and targets never take: tunnels, listeners, state, admin. */
export const RESERVED_DESCRIPTORS = 256
/** Descriptors that a gateway deals to nobody: files, the local socket, the admin port, what Node has open. */
export const KEPT_DESCRIPTORS = 96

// ── TLS visitors ────────────────────────────────────────────────────────────────────────────────────────

/** A ClientHello with its header, one full record: with post-quantum keys browsers send 2 KiB, a resumed session adds its ticket. */
export const CLIENT_HELLO_BYTES = 16 * KiB
/**
 * Records that it may be cut into. Everybody sends one; tools against censors cut it every few bytes. With their
 * headers the longest hello is 21 KiB.
 */
export const CLIENT_HELLO_RECORDS = 1_024
/** The ALPN extension, which travels in the PROXY header: all that is registered with IANA fits, and browsers offer two. */
export const CLIENT_HELLO_ALPN_BYTES = 512

/** Ticket keys of a service of TLS live so long: what was recorded with them is safe from whoever takes the machine later. */
export const TICKET_KEY_MS = 12 * 3_600_000
/** And tickets as long at most. */
export const TICKET_SECONDS = 12 * 3_600
/** What looks after a certificate may take so long to let go of it: records that it has put into DNS are taken back. */
export const CERTIFICATE_END_MS = 10_000
/** A visitor who comes before there is a certificate waits this long: as for a client that is away. */
export const CERTIFICATE_WAIT_MS = 10_000
/** So many per service; each costs a hello, and its stream's window at most. */
export const CERTIFICATE_WAITING = 256
/** How often certificate files are looked at: renewed ones have days. */
export const CERTIFICATE_FILES_MS = 5_000
/** A PEM file with a chain or a key: chains are 4 to 8 KiB. */
export const CERTIFICATE_FILE_BYTES = 256 * KiB
/** Strict-Transport-Security: for a day, and for a year once certificates have been good for a week. */
export const TRANSPORT_SECURITY_FIRST_SECONDS = 86_400
export const TRANSPORT_SECURITY_SECONDS = 31_536_000
export const TRANSPORT_SECURITY_PROVEN_MS = 7 * 86_400_000
/** A certificate of ours that nobody verifies: Apple's systems refuse more than 825 days. It is made anew at two thirds. */
export const SELF_SIGNED_DAYS = 397

// ── Challenges of certificate authorities ───────────────────────────────────────────────────────────────

/** The longest a challenge may be pending, seconds: authorities look within a minute, and once more when they are slow. */
export const CHALLENGE_SECONDS_MAX = 600
/**
 * Of one name at a gateway, and of one client: four certificates of HOSTS_PER_SERVICE hosts at once. And of all names at
 * a gateway: at half a KiB each 2 MiB.
 */
export const CHALLENGES_PER_NAME = 256
export const CHALLENGES = 4_096
/** Other replicas whose tls-alpn-01 waits behind the one that is pending: a hello says the host, and not which of them. */
export const CHALLENGES_WAITING_PER_HOST = 16
/** And for how long: its client is told why before it gives up by itself. */
export const CHALLENGE_WAIT_MS = 7_000
/** A client waits this long for all gateways to say that they pass a challenge on: CHALLENGE_WAIT_MS, a sweep, and a slow network. */
export const CHALLENGE_READY_MS = 10_000
/**
 * Visitors of challenges at once, of a client: authorities look at each of 64 hosts from six places. At 60 KiB of TLS each
 * they are 30 MiB. Past it the oldest go: an authority is done in a moment, and whoever would keep it out is not.
 */
export const CHALLENGE_VISITORS = 512
/** The head of an authority's request, which is a line, a host and a few fields; with what a gateway adds. */
export const CHALLENGE_HEAD_BYTES = 16 * KiB

// ── HTTP ────────────────────────────────────────────────────────────────────────────────────────────────

/** Fields of one head; browsers send twenty. Their places are kept in tables while a head is read. */
export const HTTP_FIELDS = 256
/** Fields that `Connection` may name besides the known ones: each costs a comparison with each field of its head. */
export const HTTP_NOMINATED_FIELDS = 32
/** The longest method anybody has registered (RFC 9110's registry) has 17 characters. */
export const HTTP_METHOD_CHARACTERS = 32
/** A response's head: with cookies of a whole site 32 KiB fit twice. */
export const HTTP_RESPONSE_HEAD_BYTES = 64 * KiB
/** A chunk's size line with its extension, which nobody uses: sizes take 13 digits. */
export const CHUNK_LINE_BYTES = 256
/** What follows the last chunk of a body. */
export const TRAILER_BYTES = 8 * KiB
/** 1xx answers before the one that counts: 100 and a few 103. Without a bound a target could send them for ever. */
export const INTERIM_RESPONSES = 16
/** Of a request's body, what is kept to be sent again while no byte of an answer has come. */
export const REPLAY_BYTES = 64 * KiB
/** How often the limits of connections are looked at: each may be so much late. */
export const HTTP_SWEEP_MS = 500
/** A body's pace is judged over so long: a phone that changes cells pauses for some seconds. */
export const BODY_PACE_MS = 10_000
/** A FIN this soon after the request came with it: its sender waits for the answer. A later one has left. */
export const HALF_CLOSE_GRACE_MS = 1_000
/** Streams that wait for another visitor's request: per service of a client, and in all. Each is a connection of a target. */
export const REUSED_STREAMS_PER_SERVICE = 64
export const REUSED_STREAMS = 4_096
/** And for how long; many targets close a connection that rests for a minute, some after five seconds. */
export const REUSED_STREAM_IDLE_MS = 4_000
/** A stream whose last answer was a 204 or 304 is given to nobody for so long, or two round trips. */
export const BODILESS_SILENCE_MS = 50
/** A visitor that rests this long lets go of its stream: a thousand open browsers need no thousand connections to a target. */
export const KEPT_STREAM_REST_MS = 4_000
/** A POST goes on a kept stream only if it was used this recently: no target gives up a connection so soon. */
export const KEPT_STREAM_SURE_MS = 1_000
/**
 * Requests that may have run are repeated elsewhere for so much of a route's requests in the last one or two windows; so
 * many always, or a route with few visitors would never get a second try.
 */
export const RETRY_SHARE = 0.1
export const RETRIES_ALWAYS = 64
export const RETRY_WINDOW_MS = 10_000
/** A request's head, by default: browsers with many cookies stay under 16 KiB. And the most that a setting may allow. */
export const HTTP_HEAD_BYTES = 32 * KiB
export const HTTP_HEAD_BYTES_MAX = 256 * KiB
/** The least that a setting may allow: one cookie and what every browser says of itself. */
export const HTTP_HEAD_BYTES_MIN = 1 * KiB
/** The shortest timeout that a setting may give: below it visitors from another continent would have none. */
export const HTTP_TIMEOUT_MS_MIN = 100
/** By default: from the first byte of a head to its last; a phone on a bad line needs three. */
export const HTTP_HEAD_MS = 10_000
/** By default: between two requests of a connection, as long as browsers keep theirs. */
export const HTTP_KEEPALIVE_MS = 75_000
/** By default: from a request's last byte to the first of its answer; long polls end within a minute or two. */
export const HTTP_RESPONSE_MS = 120_000
/** By default: bytes wait for one side, and it takes none. */
export const HTTP_STALL_MS = 60_000
/** By default, bytes per second: slower bodies are an attack, or will not arrive in anybody's lifetime. */
export const HTTP_BODY_RATE = 256
/**
 * Visitors' addresses whose requests are remembered for the limit per second, over all routes: 8 MiB. Past it those
 * that asked longest ago are forgotten, and have their burst anew, as any address has that comes for the first time.
 */
export const RATE_ENTRIES = 65_536
/** Addresses in X-Forwarded-For that are looked at, from the last: nobody has that many proxies in front. */
export const FORWARDED_ADDRESSES = 32
/** Lines of the access log are gathered this long: a write per request would cost more than the request's own. */
export const ACCESS_LOG_MS = 100
/** So much is written without waiting for more, in one write. */
export const ACCESS_LOG_WRITE_BYTES = 64 * KiB
/** What waits while nobody reads the access log, a second of a busy gateway; later lines are counted and dropped. */
export const ACCESS_LOG_BYTES = 1 * MiB
/** A text of a visitor in the access log: most targets are whole, and a flood of long ones does not fill a disk. */
export const ACCESS_LOG_TEXT_CHARACTERS = 1_024

// ── HTTP/2 visitors ─────────────────────────────────────────────────────────────────────────────────────

/** Requests at once on a visitor's connection: what other servers allow, and the least that RFC 9113 (6.5.2) advises. */
export const H2_STREAMS = 100
/**
 * Of a body that its target does not take: what a visitor may send, and what is taken of an h2c target. 20 Mbit/s over a
 * round trip of 100 ms; a stream that nobody reads costs this much.
 */
export const H2_STREAM_WINDOW_BYTES = 256 * KiB
/** Of a connection as a whole: what one stream may fill twice over. Node credits it as bytes come, so it bounds no memory. */
export const H2_SESSION_WINDOW_BYTES = 1 * MiB
/** What Node itself keeps of a connection (streams, heads, frames that wait), in its unit, MB: 100 streams with large heads. */
export const H2_SESSION_MEMORY_MB = 10
/** Fields of a head beside those that HTTP/1.1 has too: a request has four that begin with a colon, and cookies may come in crumbs. */
export const H2_EXTRA_FIELDS = 68
/** Of an answer, what lies here before its target is told to wait: what Node itself keeps of a stream. */
export const H2_ANSWER_AHEAD_BYTES = 64 * KiB
/** Bytes of bodies that lie between visitors and targets in all; past it streams that stand still are reset. */
export const H2_HELD_BYTES = 128 * MiB
/**
 * Requests that a visitor takes back before they are answered, per second and at once: one that leaves a page takes back a
 * hundred. Opening and taking back costs a visitor nothing and a target a request each (CVE-2023-44487).
 */
export const H2_RESETS_PER_SECOND = 50
export const H2_RESETS_BURST = 500
/**
 * Bytes that carry no head and no body, beyond as many as carried some: frames' headers, settings, pings, windows, and what
 * is on its way of a body that was answered before its end. Sixteen such bodies come at once, and one each second;
 * frames of one byte are nine parts of ten nothing. Per second and at once.
 */
export const H2_EMPTY_BYTES_PER_SECOND = H2_STREAM_WINDOW_BYTES
export const H2_EMPTY_BYTES_BURST = 16 * H2_STREAM_WINDOW_BYTES
/** Connections to an h2c target: at 100 streams each, as many requests as a connection-per-request target would have. */
export const H2C_SESSIONS = 16
/** Requests that wait for a place on one, each for TARGET_CONNECT_MS at most. */
export const H2C_WAITING = 1_024
/** A stream that we close has ended when its reset has left; a connection that lets none out for so long is given up. */
export const H2C_CLOSING_MS = 5_000
/** One that carries nothing is kept so long. */
export const H2C_IDLE_MS = 60_000

// ── Client ──────────────────────────────────────────────────────────────────────────────────────────────

/** Back-off between dials, full jitter: BASE doubles to MAX, which is under HOLD_MS so that held visitors see the client back. */
export const BACKOFF_BASE_MS = 250
export const BACKOFF_MAX_MS = 5_000
/** A tunnel that lasted this long resets the back-off. */
export const BACKOFF_RESET_MS = 10_000
/** A target that does not answer a dial. */
export const TARGET_CONNECT_MS = 10_000
/**
 * Dials of one service's target per second, and at once: more than an honest site with a connection per request has,
 * since a gateway carries 4 000 new ones per second on two cores. Streams that are opened and reset cost a
 * gateway next to nothing and are no streams at once: without this they would cost the target all that it has.
 */
export const TARGET_DIALS_PER_SECOND = 5_000
export const TARGET_DIALS_BURST = 20_000
/**
 * So much of a client's descriptors is not for a service that has half of them: visitors by HTTP/2 ask for a hundred
 * connections each, and those of one service must not take the others' with them.
 */
export const TARGET_SOCKETS_KEPT = 1 / 8
/** Streams that a client serves, per service and in all; of one service also connections to its target. */
export const STREAMS_PER_SERVICE = 8_192
export const STREAMS_PER_CLIENT = 16_384
/** A refused service is asked for again this often. */
export const REFUSED_RETRY_MS = 60_000
/** What goes wrong again and again is logged this often, with its count. */
export const REPEATED_LOG_MS = 60_000
/** A gateway that comes and goes is logged so often before that: two short losses in a row are news. */
export const REPEATED_LOG_FIRST = 3
/** A visitor whose target is done is looked at this often until its last bytes have left: a drain ends this much later. */
export const FINISHING_POLL_MS = 50
/** A process's own addresses are looked up this often, when visitors come: a laptop changes networks, not by the second. */
export const OWN_ADDRESSES_MS = 5_000

/** A target with a health path is asked this often, give or take the share of it that JITTER is: many are not asked at once. */
export const HEALTH_PROBE_MS = 5_000
export const HEALTH_JITTER = 0.2
/** From the dial to the end of the answer, or its first HEALTH_ANSWER_BYTES: who is slower makes visitors wait as well. */
export const HEALTH_TIMEOUT_MS = 5_000
/** Read of an answer, so that a target that has said it all is not reset; the status line alone counts. */
export const HEALTH_ANSWER_BYTES = 64 * KiB
/** In a row: one lost answer is no news, 15 s of refusals are, or 30 of silence. Two good ones, so that a target that starts and falls stays away. */
export const HEALTH_FAILURES = 3
export const HEALTH_SUCCESSES = 2

// ── Trust checks ────────────────────────────────────────────────────────────────────────────────────────

/** A question to a name server: across the world and back takes 0.3 s; asked again once, then the next server. */
export const DNS_ANSWER_MS = 2_000
export const DNS_TRIES = 2
/** Servers of one zone that are asked, one after the other. Zones have two to six. */
export const DNS_SERVERS = 6
/** Name servers whose addresses are looked up to tell who runs a zone. */
export const DNS_SERVER_ADDRESSES = 32
/** What a server may send without TCP: never a fragment, on any path (the DNS flag day's value). */
export const DNS_UDP_BYTES = 1_232
/** Records in one answer, all sections: a zone with more CAA or addresses than this is not meant to be read. */
export const DNS_RECORDS = 512
/** CNAMEs and DNAMEs that are followed; certificate authorities follow 8 at least (RFC 8659, 3). */
export const DNS_ALIASES = 8
/** Questions that one look at one host may take: a name of 20 labels with aliases in three zones takes 100. */
export const DNS_QUESTIONS = 256
/** All checks of one kind, of one host: past it the answer is that nobody answered. */
export const TRUST_CHECK_MS = 60_000
/** One request to the certificate search: it may have much to look through. */
export const CT_ANSWER_MS = 30_000
/** One page of it, and pages of one host. A certificate with a hundred names takes 3 KiB. */
export const CT_PAGE_BYTES = 4 * MiB
export const CT_PAGES = 20
/** How often it is asked, give or take a fifth: new certificates appear in the logs within a day, and the service is free. */
export const CT_MS = 6 * 3_600_000
/** Foreign certificates of one host that are named; more is the same news. */
export const CT_NAMED = 20
/** CAA records are read anew this often: who removes them needs a while to use that. */
export const CAA_MS = 6 * 3_600_000
/** Mean time between two probes of a host. They come at random between a fifth and nine fifths of it. */
export const SELF_PROBE_MS = 3_600_000
/** After the start, the first checks come within this time: tunnels are up by then, and a crowd that restarts is spread. */
export const TRUST_FIRST_MS = 60_000
/** From the dial to the end of the answer. */
export const SELF_PROBE_TIMEOUT_MS = 15_000
/** The answer of a probe with its head: a pin, a key, a signature. */
export const SELF_PROBE_BYTES = 16 * KiB
/** A connection that broke is tried once more before it is news. */
export const SELF_PROBE_TRIES = 2
/** Public addresses of one host that are probed, and proxies that it is done through. */
export const SELF_PROBE_ADDRESSES = 16
export const SELF_PROBE_PROXIES = 8
/** What a proxy may say before the connection stands. */
export const PROXY_ANSWER_BYTES = 8 * KiB
/** Nonces of probes that are remembered while they are under way; anybody can send some. */
export const PROBE_NONCES = 1_024
/** Keys of certificates that a client has shown are remembered as long as one may be valid, 398 days, and at most so many. */
export const SHOWN_KEYS_MS = 400 * 24 * 3_600_000
export const SHOWN_KEYS = 4_096
/** Findings that a client keeps for `status`. */
export const TRUST_FINDINGS = 256
/** An alarm that goes on is said again this often. */
export const TRUST_REPEATED_MS = 24 * 3_600_000
/** Parts of a compound problem that are shown: a service of 64 hosts may fail at each. */
export const ACME_SUBPROBLEMS = 3
/** What an authority says of itself: a handful of URLs and names. */
export const ACME_DIRECTORY_BYTES = 64 * KiB
/** The checks of `doctor`: what one of them asks for a target, a port or a time. */
export const DOCTOR_ANSWER_MS = 5_000
/** Hosts that it looks at at once: a silent name server costs half a minute each. */
export const DOCTOR_HOSTS = 8
/** Visitors' ports that it tries, and what it reads of a page whose Date it wants. */
export const DOCTOR_PORTS = 64
export const CLOCK_ANSWER_BYTES = 1 * MiB
/** Clocks further apart than this are worth a line: certificates and ACME bear minutes. */
export const CLOCK_SKEW_MS = 120_000
/** A certificate that we do not renew, and that has less than this left, should have been: by then programs begin that do. */
export const CERTIFICATE_LOW_MS = 30 * 24 * 3_600_000

// ── Certificates ────────────────────────────────────────────────────────────────────────────────────────

/** One request to a CA, from the dial to the last byte; a CA under load takes seconds. */
export const ACME_REQUEST_MS = 30_000
/** An answer of a CA: an order of 64 hosts fits six times, a chain with post-quantum signatures as well. */
export const ACME_BODY_BYTES = 256 * KiB
/** A URL that a CA gives, and the token of a challenge: both have some forty characters. */
export const ACME_URL_CHARACTERS = 2_048
export const ACME_TOKEN_CHARACTERS = 256
/** Certificates of a chain: three are many. */
export const ACME_CHAIN_CERTIFICATES = 16
/** Nonces tried for one request. A CA that turns down every other one gets through all but once in 65 536. */
export const ACME_NONCE_TRIES = 16
/** Between looks at what a CA has under way: what it asks for, within these. */
export const ACME_POLL_MS = 3_000
export const ACME_POLL_MS_MIN = 1_000
export const ACME_POLL_MS_MAX = 60_000
/** Looks at one thing, and for how long; some CAs take a quarter of an hour. What is not done then goes on with the next try. */
export const ACME_POLLS = 200
export const ACME_ORDER_MS = 20 * 60_000
/** An order that came to nothing for so long is given up for another: its CA may have lost it. */
export const ACME_PENDING_MS = 24 * 3_600_000
/** Hosts that are proved at once: gateways keep a bounded number of challenges. */
export const ACME_PROOFS_AT_ONCE = 8
/**
 * Orders of one service, whatever happens: Let's Encrypt allows five failures per host and hour. The day's bound holds
 * where orders succeed and are of no use, and leaves room for a week's.
 */
export const ACME_ORDERS_PER_HOUR = 5
export const ACME_ORDERS_PER_DAY = 12
/** The longest that a CA may ask to be left alone: its limits are by the hour, day and week. */
export const ACME_RETRY_AFTER_MS_MAX = 7 * 24 * 3_600_000
/**
 * Pauses after a failed order, by what it failed at: the first, which doubles with each failure, and the most. A line that
 * comes back is used soon; a refusal costs the CA work, and somebody has to change something first.
 */
export const ACME_PAUSES_MS = {
  unreachable: { first: 10_000, most: 3_600_000 },
  overloaded: { first: 60_000, most: 6 * 3_600_000 },
  limited: { first: 60_000, most: 12 * 3_600_000 },
  unproven: { first: 5 * 60_000, most: 12 * 3_600_000 },
  misconfigured: { first: 10 * 60_000, most: 12 * 3_600_000 },
  nonsense: { first: 10 * 60_000, most: 12 * 3_600_000 },
  local: { first: 10_000, most: 3_600_000 },
} as const
/** Shares of a lifetime after which it is renewed where its CA does not say: the usual, and of short ones, which leave little time to try again. */
export const ACME_RENEWAL_SHARE = 2 / 3
export const ACME_SHORT_RENEWAL_SHARE = 1 / 2
export const ACME_SHORT_LIFETIME_MS = 10 * 24 * 3_600_000
/** So much of a lifetime earlier at random, so that a thousand clients do not renew in the same minute; and the latest, whatever a CA says. */
export const ACME_RENEWAL_JITTER = 0.05
export const ACME_LATEST_RENEWAL = 0.9
/** A CA is asked when to renew this often, or when it says so, within the bounds of RFC 9773, 4.3.2. */
export const ACME_ARI_MS = 6 * 3_600_000
export const ACME_ARI_MS_MIN = 60_000
export const ACME_ARI_MS_MAX = 24 * 3_600_000
/** A certificate's file is looked at this often: what another process ordered or revoked counts within seconds. */
export const ACME_LOOK_MS = 10_000
/** Who comes second waits so long for another service's or process's account, or for its turn at the list of keys. */
export const ACME_ACCOUNT_LOCK_MS = 90_000
/** A key is remembered past the life of any certificate for it: 398 days is the longest that browsers take. */
export const ORDERED_KEYS_MS = 400 * 24 * 3_600_000
/** A hook that writes DNS; some wait for their provider. And what it may print. */
export const ACME_HOOK_MS = 120_000
export const ACME_HOOK_OUTPUT_BYTES = 64 * KiB
/** One question to a name server; and seconds that others may keep what we wrote there for an order. */
export const ACME_DNS_MS = 10_000
export const ACME_TXT_TTL_SECONDS = 60
/** Servers that are asked of one zone, and CNAMEs that are followed to it. */
export const ACME_DNS_SERVERS = 8
export const ACME_CNAMES = 8
/** Between looks whether a zone's servers show a record, how many at most (ten minutes: some providers are slow), and how many when none answers. */
export const ACME_DNS_LOOK_MS = 5_000
export const ACME_DNS_LOOKS = 120
export const ACME_DNS_SILENT_LOOKS = 6
/** Taking a record out of DNS again is tried this long, also when all else was given up. */
export const ACME_REMOVAL_MS = 30_000

// ── Memory at rest ──────────────────────────────────────────────────────────────────────────────────────

/** Garbage worth a collection (10 ms) in a process that is idle: less than this share of its last second was work. */
export const COLLECT_GARBAGE_BYTES = 2 * MiB
export const COLLECT_BUSY = 0.1
export const COLLECT_AGAIN = 4
export const COLLECT_CHECK_MS = 1_000
/** From the start to its own garbage: V8 gives its young space back where little was allocated for five seconds, and not before. */
export const COLLECT_START_MS = 6_000
/**
 * Garbage that a small heap may hold before V8 marks all of it. Twice what sockets' buffers come to between two collections of
 * young ones (32 MB), and as much again; a heap larger than this has that room anyway.
 */
export const HEAP_ROOM_BYTES = 96 * MiB
/** Ten times what is in use: V8 takes the flag as it is, and a heap of 1 MiB needs no more. */
export const HEAP_GROWTH_MAX_PERCENT = 900

// ── Workers ─────────────────────────────────────────────────────────────────────────────────────────────

/** Source addresses whose dials are remembered, so that their clients meet all workers: as many as there may be tunnels, at half a KiB. */
export const DEALT_ADDRESSES = 16_384
/** Connections that wait to be handed to a worker, at a descriptor each; and those of one address: as for those that have not logged in. */
export const HANDOVERS = 1_024
export const HANDOVERS_PER_ADDRESS = 128
/** Words on their way to a worker, at half a KiB: one that reads so little is hung, and is ended. */
export const WORKER_WORDS = 100_000
/** A worker that is asked how it is answers in this time, or is left out of the sum: a scrape and a command wait longer. */
export const WORKER_ANSWER_MS = 2_000
/** And has cut whom it must in this time, or `revoke` says that it did not. */
export const WORKER_CUT_MS = 3_000
/** A worker loads, copies the record and opens its ports in a second; 64 of them on two cores in half a minute. */
export const WORKER_START_MS = 90_000
/** Past the end of a drain, and from a close on, a worker has this long to end in order. */
export const WORKER_END_MS = 5_000
/** How often a worker looks whether its primary is there still, for when nobody tells it: the ports must be free for the next. */
export const WORKER_ALONE_MS = 500
/** Before one that died is replaced: the first pause, which doubles while they die young, the most, and what is no longer young. */
export const WORKER_PAUSE_MS = 250
export const WORKER_PAUSE_MS_MAX = 30_000
export const WORKER_OLD_MS = 60_000

// ── Admin port ──────────────────────────────────────────────────────────────────────────────────────────

/** A request to the admin port; it has no body worth waiting for. */
export const ADMIN_REQUEST_MS = 5_000
/** Series of our own in one scrape; with Node's, which are under a hundred, fewer than 10 000, which a collector takes. */
export const METRIC_SERIES = 9_900
/** The least of a token for it, and the most that is read of its file: fewer could be guessed. */
export const ADMIN_TOKEN_CHARACTERS_MIN = 16
export const ADMIN_TOKEN_FILE_BYTES = 4 * KiB

// ── State and local control ─────────────────────────────────────────────────────────────────────────────

/** A local command that gets no answer in this time changes nothing. */
export const LOCAL_CALL_MS = 5_000
/** What may reach the disk late (who was last seen when) is written this long after it changed. */
export const SIGHTINGS_WRITE_MS = 2_000
/** One request or answer on a local control socket. */
export const LOCAL_MESSAGE_BYTES = 4 * MiB
/** Local control connections at once: commands come one by one. */
export const LOCAL_CONNECTIONS = 64
/** How often a command looks whether a lock is free again; others hold it for one write. */
export const LOCK_POLL_MS = 25
/** A state file that is read: all enrolled and all revoked keys, at 300 bytes each, fit. */
export const STATE_FILE_BYTES = 64 * MiB
/** Longest socket path; Node 20 silently cuts longer ones. */
export const SOCKET_PATH_BYTES = 107
/** A configuration file; larger ones are a mistake. */
export const CONFIG_BYTES = 1 * MiB
/** A changed configuration file is read when it has rested this long: editors and copies write in several steps. */
export const CONFIG_SETTLE_MS = 1_000
/** Tables within tables in a configuration file: no setting is deeper than half of this. */
export const TOML_DEPTH = 16
/** Longest duration that anybody may write: past a year it is a slip of the pen. */
export const DURATION_MS_MAX = 365 * 24 * 3_600_000
/** Longest timer of Node: past it they fire at once. Longer idle times become this, 24 days. */
export const TIMER_MS_MAX = 2 ** 31 - 1
/** The least `memory`: 128 stalled visitors at their first window, in both directions. */
export const MEMORY_MIN_BYTES = 16 * MiB
/** Invites that are alive at once, and machines that may be enrolled. */
export const INVITES = 1_000
export const ENROLLED_CLIENTS = 100_000
export const INVITE_EXPIRES_MS = 24 * 3_600_000
export const INVITE_USES_MAX = 10_000
/** Addresses in an invite (IPv4, IPv6, a name, one spare), and bytes of each: the text stays one pasted line. */
export const INVITE_ADDRESSES = 4
export const INVITE_ADDRESS_BYTES = 255
/** Text that is looked at as an invite: the longest one, and as much again of line breaks around and in it. */
export const INVITE_TEXT_CHARACTERS = 4_096
/** A spent invite is remembered this long past its expiry, so that whoever comes late is told why. */
export const INVITE_REMEMBERED_MS = 7 * 24 * 3_600_000
/** Revoked keys that are told so; the oldest are forgotten first and become unknown ones. */
export const REVOKED_KEYS = 100_000
/** Machines or state folders remembered per key: two already mean that it was copied. */
export const INSTANCES_PER_KEY = 4
/** Routes that one name owns: a full tunnel twice over. Each port keeps a listening socket while its owner is away. */
export const ROUTES_PER_NAME = 2_000

// ── Demo ────────────────────────────────────────────────────────────────────────────────────────────────

/** The demo's visitor asks this often, waits this long for an answer (longer than it is ever held), and reads this much of it. */
export const DEMO_PING_MS = 1_000
export const DEMO_WAIT_MS = 15_000
export const DEMO_ANSWER_BYTES = 1 * KiB
/** Only a browser can be under way when the demo ends. */
export const DEMO_DRAIN_MS = 2_000
