/*
 * The benchmark's load generator: many clients in one process and one thread, with epoll and nothing but libc.
 *
 * A delivery must cost very little here, so that the figures show the server: there is no allocation and no system call
 * for a single message. It connects only to loopback addresses, and every run is bounded in count and in time.
 *
 * Every published payload carries a mark, "@number.time.filler", which servers forward unchanged inside their own
 * format. The generator looks only for this mark in a delivery, so it works with any server and any key order.
 *
 * With --deflate the subscribers offer compression. A compressed frame is not inflated, which would cost more than the
 * server: it counts as the next message in order. A frame too few or too many shows all the same.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL    /* every time in this file is in nanoseconds of CLOCK_MONOTONIC */
#define SETUP_LIMIT 60         /* seconds until all clients of a measurement must be ready */
#define DRAIN_LIMIT 10         /* seconds for the messages in flight when a measurement's time is over */
#define ARENA_BYTES (1 << 20)  /* one read; also the longest frame or protocol unit that can be received */
#define EVENTS_PER_TURN 1024
#define NUMBER_DIGITS 12
#define TIME_DIGITS 19
#define NUMBER_BLANK "NNNNNNNNNNNN"       /* as wide as NUMBER_DIGITS: filled in for each message */
#define TIME_BLANK "TTTTTTTTTTTTTTTTTTT"  /* as wide as TIME_DIGITS */
#define FILLER_AT (1 + NUMBER_DIGITS + 1 + TIME_DIGITS + 1)  /* from the '@' */
#define ROW_BYTES 128  /* more than a row of JSON and the end of all rows have */
#define NUMBERS_PER_PUBLISHER UINT64_C(1000000000)

enum role { SUBSCRIBER, PUBLISHER };
enum phase { UPGRADING, JOINING, READY, CLOSED };
enum framing { TEXT_MESSAGES, STREAM_IN_FRAMES, BARE_TCP };
enum { DEFLATED = 0x40 };  /* RSV1 of a frame (RFC 7692, 6) */
enum opcode { CONTINUATION = 0x0, TEXT = 0x1, BINARY = 0x2, CLOSE = 0x8, PING = 0x9, PONG = 0xA };

struct bytes {
    char *start;
    size_t length, capacity;
};

struct connection {
    int fd;
    enum role role;
    enum phase phase;
    bool waits_to_write;
    struct bytes input;    /* the received part of an incomplete frame */
    struct bytes stream;   /* the received part of an incomplete protocol unit, for STREAM_IN_FRAMES */
    struct bytes output;   /* bytes that the kernel has not accepted yet */
    uint64_t first_number, published, acknowledged;  /* the counts of a publisher */
    uint64_t next_number;                            /* of a subscriber: the next number in order */
    uint64_t *seen;                                  /* of a subscriber: one bit for each message number */
    int unanswered;                                  /* of a subscriber: requests to subscribe without an answer */
};

/* One wire format. Publishing fills in a template, with the same code for all; each has its own code to receive. */
struct dialect {
    const char *name;
    enum framing framing;
    const char *subscriber_path, *publisher_path, *subprotocol;
    size_t event_overhead;     /* bytes that the server adds to a payload, if they are part of the format */
    bool always_acknowledges;  /* otherwise only in the publish mode, if requested */
    bool streams;              /* subscribers get Server-Sent Events; publishers have the framing above */
    void (*prepare)(void);     /* makes the topic; may be NULL */
    void (*join)(struct connection *);
    void (*write_template)(struct bytes *, const char *payload);
    size_t (*take)(struct connection *, const char *at, size_t length);  /* bytes of one complete unit, 0: incomplete */
};

struct mode {
    const char *name;
    void (*run)(void);
    int subscribers, publishers;  /* defaults */
    uint64_t count;               /* default limit */
};

static struct {
    const struct mode *mode;
    const struct dialect *dialect;
    const char *host, *topic, *names;
    int port, subscribers, publishers, window, rate, event_bytes, concurrency, sleep, each, filters;
    uint64_t count;
    double seconds;
    bool wait, deflate, rows;
    char **tokens;  /* by connection; NULL: none is needed */
} options = {
    .host = "127.0.0.1", .topic = "bench", .subscribers = -1, .publishers = -1, .window = 20, .rate = 100,
    .event_bytes = 300, .concurrency = 500, .sleep = 50, .each = 1, .seconds = 10,
};

static struct {
    struct connection *all;
    int total, started, opening;
} clients;

static struct {
    uint64_t published, completed, deliveries, acknowledged;
    uint64_t duplicated, disordered, corrupt, refused, told_dropped, closed;
    uint64_t received, compressed;  /* of the subscribers: bytes after the upgrade, and compressed deliveries */
    uint64_t limit;      /* the highest message number for which there is memory */
    uint32_t *reached;   /* by number: the count of subscribers that have it */
    int64_t *latencies;  /* by delivery, in the latency mode */
} account;

static struct {
    struct bytes text;
    size_t blanks[8];  /* offsets of NUMBER_BLANK */
    int blank_count;
    size_t time_at;
    char *filler;
    size_t filler_length;
    size_t packet_id_at;  /* MQTT's two bytes; 0: none */
} publication;

static char arena[ARENA_BYTES];
static int poller, timer = -1, standard_input = STDIN_FILENO;  /* epoll knows the last two by their addresses */
static bool line_came;
static int64_t arrival;

/* ---- small tools ---- */

static void __attribute__((noreturn, format(printf, 2, 3))) quit(int status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(status);
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * SECOND + time.tv_nsec;
}

static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);  /* unused large parts cost nothing: calloc maps zero pages */
    if (memory == NULL)
        quit(1, "out of memory");
    return memory;
}

static char *reserve(struct bytes *bytes, size_t extra) {
    if (bytes->length + extra > bytes->capacity) {
        bytes->capacity = 2 * bytes->capacity + extra;
        bytes->start = realloc(bytes->start, bytes->capacity);
        if (bytes->start == NULL)
            quit(1, "out of memory");
    }
    return bytes->start + bytes->length;
}

static void append(struct bytes *bytes, const char *from, size_t length) {
    if (length > 0)
        memcpy(reserve(bytes, length), from, length);
    bytes->length += length;
}

static void __attribute__((format(printf, 2, 3))) append_format(struct bytes *bytes, const char *format, ...) {
    char text[16384];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= sizeof text)
        quit(2, "--event-bytes or --topic is too long");
    append(bytes, text, (size_t)length);
}

static void drop_front(struct bytes *bytes, size_t length) {
    bytes->length -= length;
    if (bytes->length > 0)
        memmove(bytes->start, bytes->start + length, bytes->length);
}

static bool contains(const char *at, size_t length, const char *word) {
    return memmem(at, length, word, strlen(word)) != NULL;
}

static bool starts_with(const char *at, size_t length, const char *word) {
    return length >= strlen(word) && memcmp(at, word, strlen(word)) == 0;
}

/* The length of the first line with its CR LF; 0: incomplete. */
static size_t line_length(const char *at, size_t length) {
    const char *end = memmem(at, length, "\r\n", 2);
    return end == NULL ? 0 : (size_t)(end - at) + 2;
}

static void write_digits(char *to, uint64_t value, int digits) {
    for (int i = digits - 1; i >= 0; i--, value /= 10)
        to[i] = (char)('0' + value % 10);
}

/* Returns UINT64_MAX if one of them is not a digit. */
static uint64_t read_digits(const char *at, int digits) {
    uint64_t value = 0;
    for (int i = 0; i < digits; i++) {
        unsigned digit = (unsigned char)at[i] - '0';
        if (digit > 9)
            return UINT64_MAX;
        value = value * 10 + digit;
    }
    return value;
}

/* ---- sockets ---- */

static socklen_t loopback_address(struct sockaddr_storage *address) {
    struct sockaddr_in *four = (struct sockaddr_in *)address;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)address;
    memset(address, 0, sizeof *address);
    if (inet_pton(AF_INET, options.host, &four->sin_addr) == 1 && ntohl(four->sin_addr.s_addr) >> 24 == 127) {
        four->sin_family = AF_INET;
        four->sin_port = htons((uint16_t)options.port);
        return sizeof *four;
    }
    if (inet_pton(AF_INET6, options.host, &six->sin6_addr) == 1 && IN6_IS_ADDR_LOOPBACK(&six->sin6_addr)) {
        six->sin6_family = AF_INET6;
        six->sin6_port = htons((uint16_t)options.port);
        return sizeof *six;
    }
    quit(2, "--host %s: only loopback addresses (127.0.0.0/8 and ::1) get load", options.host);
}

static int open_socket(int flags) {
    struct sockaddr_storage address;
    socklen_t length = loopback_address(&address);
    int fd = socket(address.ss_family, SOCK_STREAM | flags, 0), on = 1;
    if (fd < 0)
        quit(1, "socket: %s", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, (struct sockaddr *)&address, length) < 0 && errno != EINPROGRESS)
        quit(1, "connect: %s", strerror(errno));
    return fd;
}

/* ---- output ---- */

static void watch(struct connection *connection, bool for_writing) {
    struct epoll_event event = {.events = EPOLLIN | (for_writing ? EPOLLOUT : 0), .data.ptr = connection};
    connection->waits_to_write = for_writing;
    epoll_ctl(poller, EPOLL_CTL_MOD, connection->fd, &event);
}

static void lose(struct connection *connection, const char *reason) {
    if (connection->phase == CLOSED)
        return;
    if (account.closed++ == 0)
        fprintf(stderr, "load: client %td was closed: %s\n", connection - clients.all, reason);
    close(connection->fd);
    connection->phase = CLOSED;
}

static void flush(struct connection *connection) {
    if (connection->phase == CLOSED || connection->output.length == 0)
        return;
    ssize_t sent = send(connection->fd, connection->output.start, connection->output.length, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN)
        return lose(connection, strerror(errno));
    drop_front(&connection->output, sent < 0 ? 0 : (size_t)sent);
    bool unsent = connection->output.length > 0;
    if (unsent != connection->waits_to_write)
        watch(connection, unsent);
}

/* RFC 6455, 5.3: the mask must differ between frames. Xorshift is enough for a client that trusts its server. */
static uint32_t next_mask(void) {
    static uint32_t state = 2463534242u;
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

static size_t write_frame_head(char *to, enum opcode opcode, size_t length) {
    to[0] = (char)(0x80 | opcode);
    if (length < 126) {
        to[1] = (char)(0x80 | length);
        return 2;
    }
    if (length > UINT16_MAX)
        quit(2, "a frame of %zu bytes is longer than this generator sends", length);
    to[1] = (char)(0x80 | 126);
    to[2] = (char)(length >> 8);
    to[3] = (char)length;
    return 4;
}

static void mask_copy(char *to, const char *from, size_t length, const unsigned char key[4]) {
    for (size_t i = 0; i < length; i++)
        to[i] = (char)(from[i] ^ key[i & 3]);
}

static void append_frame(struct connection *connection, enum opcode opcode, const char *body, size_t length) {
    char *frame = reserve(&connection->output, length + 8);
    size_t head = write_frame_head(frame, opcode, length);
    uint32_t mask = next_mask();
    unsigned char key[4];
    memcpy(key, &mask, sizeof key);
    memcpy(frame + head, key, sizeof key);
    mask_copy(frame + head + 4, body, length, key);
    connection->output.length += head + 4 + length;
}

/* Queues one unit of the dialect, framed as the dialect requires. */
static void say(struct connection *connection, const char *unit, size_t length) {
    if (options.dialect->framing == BARE_TCP)
        append(&connection->output, unit, length);
    else
        append_frame(connection, options.dialect->framing == TEXT_MESSAGES ? TEXT : BINARY, unit, length);
}

static void say_text(struct connection *connection, const char *text) {
    say(connection, text, strlen(text));
}

/* ---- the account ---- */

/* In the publish mode, without subscribers, only an acknowledgement shows that a message has arrived. */
static bool wants_acknowledgements(void) {
    return options.dialect->always_acknowledges || options.subscribers == 0;
}

/*
 * Linux acknowledges received data at every read, except in the interactive mode, which is for connections that answer
 * what they receive. It leaves that mode at the first pause of 40 ms, but under full load there is none. A connection is
 * in that mode or not, depending on what the dialect sends after the handshake; the server's writes then cost up to a
 * third more.
 */
static void leave_interactive_mode(const struct connection *subscriber) {
    int on = 1;
    setsockopt(subscriber->fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
}

static void become_ready(struct connection *connection) {
    if (connection->phase != JOINING)
        return;
    connection->phase = READY;
    clients.opening--;
    if (connection->role == SUBSCRIBER)
        leave_interactive_mode(connection);
}

static bool already_seen(struct connection *subscriber, uint64_t number) {
    uint64_t bit = 1ULL << (number % 64), *word = &subscriber->seen[number / 64];
    bool seen = (*word & bit) != 0;
    *word |= bit;
    return seen;
}

static void count_delivery(uint64_t number) {
    account.deliveries++;
    if (++account.reached[number] == (uint32_t)options.subscribers)
        account.completed++;
}

/* Which message it is, is not known: the next one. */
static void note_compressed_delivery(struct connection *subscriber) {
    account.compressed++;
    if (subscriber->next_number >= account.published)
        account.corrupt++;
    else
        count_delivery(subscriber->next_number++);
}

static void note_delivery(struct connection *subscriber, const char *mark, size_t available) {
    account.corrupt++;  /* taken back below if the message is complete */
    if (available < FILLER_AT + publication.filler_length)
        return;
    uint64_t number = read_digits(mark + 1, NUMBER_DIGITS);
    if (number >= account.published || memcmp(mark + FILLER_AT, publication.filler, publication.filler_length) != 0)
        return;
    account.corrupt--;
    if (already_seen(subscriber, number)) {
        account.duplicated++;
        return;
    }
    if (number < subscriber->next_number)
        account.disordered++;
    else
        subscriber->next_number = number + 1;
    if (account.latencies != NULL)
        account.latencies[account.deliveries] =
            arrival - (int64_t)read_digits(mark + 1 + NUMBER_DIGITS + 1, TIME_DIGITS);
    count_delivery(number);
}

/* Returns true if the unit was a delivery: only deliveries carry an '@'. */
static bool take_delivery(struct connection *connection, const char *at, size_t length) {
    const char *mark = memchr(at, '@', length);
    if (mark == NULL)
        return false;
    note_delivery(connection, mark, length - (size_t)(mark - at));
    return true;
}

static void note_acknowledgement(struct connection *publisher) {
    if (publisher->phase != READY || !wants_acknowledgements())
        return;
    publisher->acknowledged++;
    account.acknowledged++;
}

static void note_refusal(const char *at, size_t length) {
    if (account.refused++ == 0)
        fprintf(stderr, "load: refused: %.*s\n", (int)(length < 300 ? length : 300), at);
}

/* ---- dialect: this project's contract ---- */

/* One REST call before the clients start; blocking, with a time limit. */
static void post(const char *path, const char *body) {
    char text[12000];
    int fd = open_socket(0), status = 0;
    struct timeval limit = {.tv_sec = 10};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    int length = snprintf(text, sizeof text,
                          "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                          "%s%s%sContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
                          path, options.tokens ? "Authorization: Bearer " : "", options.tokens ? options.tokens[0] : "",
                          options.tokens ? "\r\n" : "", strlen(body), body);
    ssize_t got = send(fd, text, (size_t)length, MSG_NOSIGNAL) == length ? recv(fd, text, sizeof text - 1, 0) : -1;
    text[got > 0 ? got : 0] = '\0';
    const char *answer = strstr(text, "\r\n\r\n");
    if (sscanf(text, "HTTP/1.1 %d", &status) != 1 || (status != 201 && status != 409))
        quit(1, "POST %s was answered: %d %.100s", path, status, answer != NULL ? answer + 4 : "(nothing)");
    close(fd);
}

static void create_topic(const char *more) {
    char body[512];
    snprintf(body, sizeof body, "{\"name\":\"%s\"%s}", options.topic, more);
    post("/topics", body);
}

static void pubsub_prepare(void) {
    create_topic("");
}

static void pubsub_prepare_durable(void) {
    create_topic(",\"durable\":true");
}

/* The topic, or a name made of --names: its '#' becomes a number that no other subscription of this run has. */
static void write_name(char *to, size_t size, ptrdiff_t number) {
    const char *mark = options.names != NULL ? strchr(options.names, '#') : NULL;
    if (mark == NULL)
        snprintf(to, size, "%s", options.names != NULL ? options.names : options.topic);
    else
        snprintf(to, size, "%.*s%td%s", (int)(mark - options.names), options.names, number, mark + 1);
}

#define FILTER "payload.text != params.other"

/* One text for all; the params differ in as many ways as --filters says. Every message matches. */
static void write_params(char *to, size_t size, ptrdiff_t client) {
    snprintf(to, size, "{\"other\":\"never-%td\"}", client % options.filters);
}

static void pubsub_subscribe(struct connection *connection, ptrdiff_t number) {
    char text[1024], name[256], params[64], filter[160] = "";
    ptrdiff_t client = connection - clients.all;
    write_name(name, sizeof name, number);
    if (options.filters > 0) {
        write_params(params, sizeof params, client);
        snprintf(filter, sizeof filter, ",\"filter\":\"" FILTER "\",\"params\":%s", params);
    }
    snprintf(text, sizeof text,
             "{\"type\":\"subscribe\",\"topic\":\"%s\",\"client_id\":\"load-%td\"%s,\"request_id\":\"joined\"}",
             name, client, filter);
    say_text(connection, text);
}

static void pubsub_join(struct connection *connection) {
    if (connection->role == PUBLISHER)
        return become_ready(connection);
    connection->unanswered = options.each;
    for (int i = 0; i < options.each; i++)
        pubsub_subscribe(connection, (connection - clients.all) * options.each + i);
}

static void pubsub_write_template(struct bytes *out, const char *payload) {
    append_format(out,
                  "{\"type\":\"publish\",\"topic\":\"%s\",\"message\":{\"id\":\"00000000-0000-4000-8000-" NUMBER_BLANK
                  "\",\"payload\":%s},\"request_id\":\"#" NUMBER_BLANK "\"}",
                  options.topic, payload);
}

/* Acknowledgements come in the order of the publishes. */
static void pubsub_take_acknowledgement(struct connection *connection, const char *at, size_t length) {
    const char *mark = memchr(at, '#', length);
    if (mark == NULL || length - (size_t)(mark - at) <= NUMBER_DIGITS) {
        if (--connection->unanswered <= 0)
            become_ready(connection);
        return;
    }
    if (read_digits(mark + 1, NUMBER_DIGITS) != connection->first_number + connection->acknowledged)
        account.disordered++;
    note_acknowledgement(connection);
}

static size_t pubsub_take(struct connection *connection, const char *at, size_t length) {
    if (take_delivery(connection, at, length))
        return length;
    if (contains(at, length, "\"ack\""))
        pubsub_take_acknowledgement(connection, at, length);
    else if (contains(at, length, "\"error\""))
        note_refusal(at, length);
    else if (contains(at, length, "\"dropped\""))
        account.told_dropped++;
    return length;
}

/* ---- Server-Sent Events: a block of lines for each message, and an empty line ---- */

static size_t stream_take(struct connection *connection, const char *at, size_t length) {
    const char *end = memmem(at, length, "\n\n", 2);
    size_t block = end == NULL ? 0 : (size_t)(end - at) + 2;
    if (block == 0 || take_delivery(connection, at, block))
        return block;
    if (contains(at, block, "\"error\""))
        note_refusal(at, block);
    else if (contains(at, block, "\"dropped\""))
        account.told_dropped++;
    return block;
}

static void append_query_value(struct bytes *out, const char *text) {
    for (; *text != '\0'; text++)
        append_format(out, "%%%02X", (unsigned char)*text);
}

static void pubsub_append_query(struct bytes *out, const struct connection *connection) {
    char params[64];
    append_format(out, "?client_id=load-%td", connection - clients.all);
    if (options.filters == 0)
        return;
    write_params(params, sizeof params, connection - clients.all);
    append_format(out, "&filter=");
    append_query_value(out, FILTER);
    append_format(out, "&params=");
    append_query_value(out, params);
}

/* ---- dialects raw and nchan: a server that forwards every text unchanged ---- */

static void raw_join(struct connection *connection) {
    if (connection->role == PUBLISHER)
        become_ready(connection);
}

static void raw_write_template(struct bytes *out, const char *payload) {
    append_format(out, "%s", payload);
}

/* A subscriber gets a text once it is in the server's list; a publisher gets a text for each message. */
static size_t raw_take(struct connection *connection, const char *at, size_t length) {
    if (take_delivery(connection, at, length))
        return length;
    if (connection->role == PUBLISHER)
        note_acknowledgement(connection);
    else
        become_ready(connection);
    return length;
}

/* ---- dialect socketio: Socket.IO 5 over Engine.IO 4, texts that begin with one or two type digits ---- */

static void socketio_join(struct connection *connection) {
    (void)connection;  /* the server sends first */
}

static void socketio_write_template(struct bytes *out, const char *payload) {
    append_format(out, "421[\"publish\",%s]", payload);  /* event, acknowledgement 1, always the same: not checked */
}

static void socketio_enter(struct connection *connection) {
    if (connection->role == SUBSCRIBER)
        say_text(connection, "421[\"subscribe\"]");
    else
        become_ready(connection);
}

static size_t socketio_take(struct connection *connection, const char *at, size_t length) {
    if (take_delivery(connection, at, length))
        return length;
    if (starts_with(at, length, "0"))
        say_text(connection, "40");
    else if (starts_with(at, length, "2"))
        say_text(connection, "3");
    else if (starts_with(at, length, "40"))
        socketio_enter(connection);
    else if (starts_with(at, length, "43") && connection->role == SUBSCRIBER)
        become_ready(connection);
    else if (starts_with(at, length, "43"))
        note_acknowledgement(connection);
    else
        note_refusal(at, length);
    return length;
}

/* ---- dialect redis: RESP 2 over TCP ---- */

static void redis_join(struct connection *connection) {
    char text[512];
    if (connection->role == PUBLISHER)
        return become_ready(connection);
    snprintf(text, sizeof text, "SUBSCRIBE %s\r\n", options.topic);
    say_text(connection, text);
}

static void redis_write_template(struct bytes *out, const char *payload) {
    append_format(out, "*3\r\n$7\r\nPUBLISH\r\n$%zu\r\n%s\r\n$%zu\r\n%s\r\n", strlen(options.topic), options.topic,
                  strlen(payload), payload);
}

/* A unit is a bulk string after its length, or one line. */
static size_t redis_part_length(const char *at, size_t length) {
    size_t line = line_length(at, length);
    if (line == 0 || *at != '$')
        return line;
    size_t whole = line + strtoul(at + 1, NULL, 10) + 2;
    return whole <= length ? whole : 0;
}

/* A subscriber gets an array of three: the kind, the topic, and the message or a count. */
static size_t redis_take(struct connection *connection, const char *at, size_t length) {
    size_t used = redis_part_length(at, length);
    if (used == 0)
        return 0;
    for (int part = 0; *at == '*' && part < 3; part++) {
        size_t more = redis_part_length(at + used, length - used);
        if (more == 0)
            return 0;
        used += more;
    }
    if (*at == '-')
        note_refusal(at, used);
    else if (*at != '*')
        note_acknowledgement(connection);
    else if (!take_delivery(connection, at, used))
        become_ready(connection);
    return used;
}

/* A stream keeps its messages; the answer is the new entry's id, a bulk string. */
static void redis_write_entry_template(struct bytes *out, const char *payload) {
    append_format(out, "*5\r\n$4\r\nXADD\r\n$%zu\r\n%s\r\n$1\r\n*\r\n$1\r\nm\r\n$%zu\r\n%s\r\n", strlen(options.topic),
                  options.topic, strlen(payload), payload);
}

/* ---- dialect nats: NATS lines inside binary frames ---- */

static void nats_join(struct connection *connection) {
    char text[1024];
    snprintf(text, sizeof text,
             "CONNECT {\"verbose\":%s,\"pedantic\":false,\"lang\":\"c\",\"version\":\"1\",\"protocol\":1}\r\n",
             wants_acknowledgements() ? "true" : "false");
    say_text(connection, text);
    snprintf(text, sizeof text, "SUB %s 1\r\n", options.topic);
    if (connection->role == SUBSCRIBER)
        say_text(connection, text);
    say_text(connection, "PING\r\n");  /* its PONG says that the subscription is active */
}

static void nats_write_template(struct bytes *out, const char *payload) {
    append_format(out, "PUB %s %zu\r\n%s\r\n", options.topic, strlen(payload), payload);
}

/* MSG <subject> <subscription> <length>; the payload is a line of its own. */
static size_t nats_take_message(struct connection *connection, const char *at, size_t line, size_t length) {
    const char *last_word = memrchr(at, ' ', line);
    size_t whole = line + strtoul(last_word + 1, NULL, 10) + 2;
    if (whole > length)
        return 0;
    take_delivery(connection, at + line, whole - line);
    return whole;
}

static size_t nats_take(struct connection *connection, const char *at, size_t length) {
    size_t line = line_length(at, length);
    if (starts_with(at, line, "MSG "))
        return nats_take_message(connection, at, line, length);
    if (starts_with(at, line, "+OK"))
        note_acknowledgement(connection);
    else if (starts_with(at, line, "PING"))
        say_text(connection, "PONG\r\n");
    else if (starts_with(at, line, "PONG"))
        become_ready(connection);
    else if (starts_with(at, line, "-ERR"))
        note_refusal(at, line);
    return line;
}

/* ---- dialect jetstream: NATS with a stream that keeps its messages and answers each publish with a message ---- */

#define JETSTREAM_INBOX "_INBOX.load"

/* It is not an error to create an existing stream again with the same options. */
static void jetstream_join(struct connection *connection) {
    char text[1024], stream[256];
    snprintf(stream, sizeof stream, "{\"name\":\"bench\",\"subjects\":[\"%s\"],\"storage\":\"file\",\"max_msgs\":-1}",
             options.topic);
    snprintf(text, sizeof text,
             "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"c\",\"version\":\"1\",\"protocol\":1}\r\n"
             "SUB " JETSTREAM_INBOX ".%td 1\r\nPUB $JS.API.STREAM.CREATE.bench " JETSTREAM_INBOX ".%td %zu\r\n%s\r\n",
             connection - clients.all, connection - clients.all, strlen(stream), stream);
    say_text(connection, text);
}

/* The one publisher of a measurement is client 0: there are no subscribers. */
static void jetstream_write_template(struct bytes *out, const char *payload) {
    append_format(out, "PUB %s " JETSTREAM_INBOX ".0 %zu\r\n%s\r\n", options.topic, strlen(payload), payload);
}

static size_t jetstream_take(struct connection *connection, const char *at, size_t length) {
    size_t line = line_length(at, length);
    if (!starts_with(at, line, "MSG "))
        return nats_take(connection, at, length);
    const char *last_word = memrchr(at, ' ', line);
    size_t whole = line + strtoul(last_word + 1, NULL, 10) + 2;
    if (whole > length)
        return 0;
    if (contains(at + line, whole - line, "\"error\""))
        note_refusal(at + line, whole - line);
    else if (connection->phase == JOINING)
        become_ready(connection);
    else
        note_acknowledgement(connection);
    return whole;
}

/* ---- dialect mqtt: MQTT 3.1.1 inside binary frames ---- */

enum { MQTT_CONNACK = 2, MQTT_PUBLISH = 3, MQTT_PUBACK = 4, MQTT_SUBACK = 9 };

/* read_option allows a topic of at most 120 bytes, so the subscription's length fits in one byte. */
static void mqtt_join(struct connection *connection) {
    static const char connect[] = "\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00";  /* 3.1.1, clean session, no name */
    char packet[256];
    size_t topic = strlen(options.topic);
    say(connection, connect, sizeof connect);
    if (connection->role == PUBLISHER)
        return;
    snprintf(packet, sizeof packet, "\x82%c%c\x01%c%c%s", (char)(topic + 5), 0, 0, (char)topic, options.topic);
    say(connection, packet, topic + 7);  /* with the string's own end as quality of service 0 */
}

static void append_mqtt_length(struct bytes *out, size_t length) {
    for (; length >= 128; length /= 128)
        append(out, (char[]){(char)(128 | length % 128)}, 1);
    append(out, (char[]){(char)length}, 1);
}

/* Uses quality of service 1 if acknowledgements are wanted, otherwise 0. */
static void mqtt_write_template(struct bytes *out, const char *payload) {
    size_t identifier = wants_acknowledgements() ? 2 : 0;
    append(out, identifier ? "\x32" : "\x30", 1);
    append_mqtt_length(out, 2 + strlen(options.topic) + identifier + strlen(payload));
    append(out, (char[]){0, (char)strlen(options.topic)}, 2);
    append(out, options.topic, strlen(options.topic));
    publication.packet_id_at = identifier ? out->length : 0;
    append(out, "\0\0", identifier);
    append(out, payload, strlen(payload));
}

/* The packet's length from its head: a type byte, then seven bits of the length in each byte. 0: incomplete. */
static size_t mqtt_packet_length(const char *at, size_t length) {
    size_t body = 0;
    for (size_t i = 1; i < length && i <= 4; i++) {
        body |= (size_t)(at[i] & 127) << 7 * (i - 1);
        if ((at[i] & 128) == 0)
            return 1 + i + body <= length ? 1 + i + body : 0;
    }
    return 0;
}

static size_t mqtt_take(struct connection *connection, const char *at, size_t length) {
    size_t packet = mqtt_packet_length(at, length);
    int type = packet ? (unsigned char)at[0] >> 4 : 0;
    if (type == MQTT_PUBLISH)
        take_delivery(connection, at, packet);
    else if (type == MQTT_PUBACK)
        note_acknowledgement(connection);
    else if (type == (connection->role == SUBSCRIBER ? MQTT_SUBACK : MQTT_CONNACK))
        become_ready(connection);
    return packet;
}

static const struct dialect dialects[] = {
    {.name = "pubsub", .framing = TEXT_MESSAGES, .subscriber_path = "/ws", .publisher_path = "/ws",
     .event_overhead = 139, .always_acknowledges = true, .prepare = pubsub_prepare, .join = pubsub_join,
     .write_template = pubsub_write_template, .take = pubsub_take},
    {.name = "durable", .framing = TEXT_MESSAGES, .subscriber_path = "/ws", .publisher_path = "/ws",
     .event_overhead = 139, .always_acknowledges = true, .prepare = pubsub_prepare_durable, .join = pubsub_join,
     .write_template = pubsub_write_template, .take = pubsub_take},
    {.name = "pubsub-sse", .framing = TEXT_MESSAGES, .streams = true, .publisher_path = "/ws",
     .event_overhead = 139, .always_acknowledges = true, .prepare = pubsub_prepare, .join = pubsub_join,
     .write_template = pubsub_write_template, .take = pubsub_take},
    {.name = "nchan-sse", .framing = TEXT_MESSAGES, .streams = true, .subscriber_path = "/events",
     .publisher_path = "/pub", .always_acknowledges = true, .join = become_ready,
     .write_template = raw_write_template, .take = raw_take},
    {.name = "raw", .framing = TEXT_MESSAGES, .subscriber_path = "/sub", .publisher_path = "/pub",
     .always_acknowledges = true, .join = raw_join, .write_template = raw_write_template, .take = raw_take},
    {.name = "nchan", .framing = TEXT_MESSAGES, .subscriber_path = "/sub", .publisher_path = "/pub",
     .always_acknowledges = true, .join = become_ready, .write_template = raw_write_template, .take = raw_take},
    {.name = "socketio", .framing = TEXT_MESSAGES, .subscriber_path = "/socket.io/?EIO=4&transport=websocket",
     .publisher_path = "/socket.io/?EIO=4&transport=websocket", .always_acknowledges = true, .join = socketio_join,
     .write_template = socketio_write_template, .take = socketio_take},
    {.name = "redis", .framing = BARE_TCP, .always_acknowledges = true, .join = redis_join,
     .write_template = redis_write_template, .take = redis_take},
    {.name = "redis-stream", .framing = BARE_TCP, .always_acknowledges = true, .join = redis_join,
     .write_template = redis_write_entry_template, .take = redis_take},
    {.name = "nats", .framing = STREAM_IN_FRAMES, .subscriber_path = "/", .publisher_path = "/",
     .join = nats_join, .write_template = nats_write_template, .take = nats_take},
    {.name = "jetstream", .framing = STREAM_IN_FRAMES, .subscriber_path = "/", .publisher_path = "/",
     .always_acknowledges = true, .join = jetstream_join, .write_template = jetstream_write_template,
     .take = jetstream_take},
    {.name = "mqtt", .framing = STREAM_IN_FRAMES, .subscriber_path = "/mqtt", .publisher_path = "/mqtt",
     .subprotocol = "mqtt", .join = mqtt_join, .write_template = mqtt_write_template, .take = mqtt_take},
};

/* ---- input ---- */

static bool is_stream(const struct connection *connection) {
    return options.dialect->streams && connection->role == SUBSCRIBER;
}

/* Takes every complete unit of a byte stream and returns the bytes used. */
static size_t take_units(struct connection *connection, const char *start, size_t length) {
    size_t (*take)(struct connection *, const char *, size_t) =
        is_stream(connection) ? stream_take : options.dialect->take;
    size_t used = 0, unit;
    while (used < length && (unit = take(connection, start + used, length - used)) > 0)
        used += unit;
    return used;
}

static void take_stream(struct connection *connection, const char *body, size_t length) {
    append(&connection->stream, body, length);
    drop_front(&connection->stream, take_units(connection, connection->stream.start, connection->stream.length));
}

static void take_data(struct connection *connection, bool whole, const char *body, size_t length) {
    if (options.dialect->framing == STREAM_IN_FRAMES)
        take_stream(connection, body, length);
    else if (whole)
        options.dialect->take(connection, body, length);
    else
        quit(1, "the server fragments its messages, which is not supported");
}

static void take_close(struct connection *connection, const char *body, size_t length) {
    char reason[160];
    int code = length >= 2 ? (unsigned char)body[0] << 8 | (unsigned char)body[1] : 0;
    snprintf(reason, sizeof reason, "close frame %d %.*s", code, length > 2 ? (int)length - 2 : 0, body + 2);
    lose(connection, reason);
}

static void take_frame(struct connection *connection, unsigned char head, const char *body, size_t length) {
    if ((head & DEFLATED) != 0 && options.deflate && connection->phase == READY)
        return note_compressed_delivery(connection);
    switch (head & 0x0f) {
    case CONTINUATION:
    case TEXT:
    case BINARY:
        return take_data(connection, (head & 0x80) != 0 && (head & 0x0f) != CONTINUATION, body, length);
    case PING:
        return append_frame(connection, PONG, body, length);
    case PONG:
        return;
    case CLOSE:
        return take_close(connection, body, length);
    default:
        quit(1, "the server sent a frame of unknown kind %d", head & 0x0f);
    }
}

/* Takes every complete frame and returns the bytes used. Frames of a server are not masked. */
static size_t take_frames(struct connection *connection, char *start, size_t length) {
    size_t used = 0;
    while (length - used >= 2) {
        const unsigned char *at = (unsigned char *)start + used;
        size_t body = at[1], head = body < 126 ? 2 : body == 126 ? 4 : 10;
        if (length - used < head)
            break;
        if (head > 2)
            body = 0;
        for (size_t i = 2; i < head; i++)
            body = body << 8 | at[i];
        if (length - used - head < body)
            break;
        take_frame(connection, at[0], (const char *)at + head, body);
        used += head + body;
    }
    return used;
}

/* Reads the answer to the upgrade. It does not check the key: conformance is tested elsewhere. */
static size_t take_upgrade(struct connection *connection, char *start, size_t length) {
    const char *end = memmem(start, length, "\r\n\r\n", 4);
    if (end == NULL)
        return 0;
    if (!starts_with(start, length, "HTTP/1.1 101"))
        quit(1, "the upgrade was refused: %.*s", (int)line_length(start, length), start);
    connection->phase = JOINING;
    options.dialect->join(connection);
    size_t head = (size_t)(end - start) + 4;
    return head + take_frames(connection, start + head, length - head);
}

/* Reads the head of a stream: whoever gets it is subscribed. */
static size_t take_stream_head(struct connection *connection, char *start, size_t length) {
    const char *end = memmem(start, length, "\r\n\r\n", 4);
    if (end == NULL)
        return 0;
    if (!starts_with(start, length, "HTTP/1.1 200"))
        quit(1, "the stream was refused: %.*s", (int)line_length(start, length), start);
    if (contains(start, (size_t)(end - start), "ransfer-"))
        quit(1, "the stream has a transfer coding, which is not supported");
    connection->phase = JOINING;
    become_ready(connection);
    size_t head = (size_t)(end - start) + 4;
    return head + take_units(connection, start + head, length - head);
}

static size_t take(struct connection *connection, char *start, size_t length) {
    if (is_stream(connection))
        return connection->phase == UPGRADING ? take_stream_head(connection, start, length)
                                              : take_units(connection, start, length);
    if (options.dialect->framing == BARE_TCP)
        return take_units(connection, start, length);
    if (connection->phase == UPGRADING)
        return take_upgrade(connection, start, length);
    return take_frames(connection, start, length);
}

/* Puts the rest of the last read before the new bytes, and keeps the new rest for the next read. */
static void receive(struct connection *connection) {
    size_t kept = connection->input.length;
    if (kept == sizeof arena)
        quit(1, "the server sent a frame of more than %zu bytes", sizeof arena);
    if (kept > 0)
        memcpy(arena, connection->input.start, kept);
    ssize_t got = recv(connection->fd, arena + kept, sizeof arena - kept, 0);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0)
        return lose(connection, got == 0 ? "end of stream" : strerror(errno));
    arrival = now();
    if (connection->role == SUBSCRIBER)
        account.received += (uint64_t)got;
    size_t used = take(connection, arena, kept + (size_t)got);
    connection->input.length = 0;
    append(&connection->input, arena + used, kept + (size_t)got - used);
    flush(connection);
}

/* ---- the loop ---- */

static void wake_up(int *source) {
    char ignored[4096];
    ssize_t got = read(*source, ignored, sizeof ignored);
    line_came = line_came || (source == &standard_input && got >= 0);  /* the end of the input counts as a line */
}

static void serve(struct connection *connection, uint32_t events) {
    if (connection->phase != CLOSED && (events & EPOLLOUT))
        flush(connection);
    if (connection->phase != CLOSED && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        receive(connection);
}

static void turn(void) {
    static struct epoll_event events[EVENTS_PER_TURN];
    int count = epoll_wait(poller, events, EVENTS_PER_TURN, options.sleep);
    for (int i = 0; i < count; i++) {
        void *source = events[i].data.ptr;
        if (source == &timer || source == &standard_input)
            wake_up(source);
        else
            serve(source, events[i].events);
    }
}

/* Input that epoll does not support (a file, /dev/null) counts as a line that has already come. */
static void await_line(const char *state, int64_t limit) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &standard_input};
    printf("{\"state\":\"%s\"}\n", state);
    fflush(stdout);
    line_came = epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &event) < 0;
    while (!line_came && account.closed == 0 && now() < limit)
        turn();
    epoll_ctl(poller, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
}

/* ---- opening ---- */

static void say_upgrade(struct connection *connection) {
    const struct dialect *dialect = options.dialect;
    append_format(&connection->output,
                  "GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                  "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
                  connection->role == SUBSCRIBER ? dialect->subscriber_path : dialect->publisher_path);
    if (dialect->subprotocol != NULL)
        append_format(&connection->output, "Sec-WebSocket-Protocol: %s\r\n", dialect->subprotocol);
    if (options.deflate && connection->role == SUBSCRIBER)
        append_format(&connection->output, "Sec-WebSocket-Extensions: permessage-deflate\r\n");
    if (options.tokens != NULL)
        append_format(&connection->output, "Authorization: Bearer %s\r\n", options.tokens[connection - clients.all]);
    append_format(&connection->output, "\r\n");
}

static void say_request(struct connection *connection) {
    struct bytes *out = &connection->output;
    if (options.dialect->subscriber_path != NULL) {
        append_format(out, "GET %s", options.dialect->subscriber_path);
    } else {
        append_format(out, "GET /topics/%s/events", options.topic);
        pubsub_append_query(out, connection);
    }
    append_format(out, " HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n");
    if (options.tokens != NULL)
        append_format(out, "Authorization: Bearer %s\r\n", options.tokens[connection - clients.all]);
    append_format(out, "\r\n");
}

static void open_connection(struct connection *connection) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = connection};
    connection->fd = open_socket(SOCK_NONBLOCK);
    connection->waits_to_write = true;
    epoll_ctl(poller, EPOLL_CTL_ADD, connection->fd, &event);
    clients.opening++;
    if (is_stream(connection))
        return say_request(connection);
    if (options.dialect->framing != BARE_TCP)
        return say_upgrade(connection);
    connection->phase = JOINING;
    options.dialect->join(connection);
}

static void plan_clients(void) {
    clients.total = options.subscribers + options.publishers;
    clients.all = allocate((size_t)clients.total, sizeof *clients.all);
    for (int i = 0; i < options.publishers; i++) {
        struct connection *publisher = &clients.all[options.subscribers + i];
        publisher->role = PUBLISHER;
        publisher->first_number = (uint64_t)i * NUMBERS_PER_PUBLISHER;
    }
    for (int i = 0; i < options.subscribers; i++)
        clients.all[i].seen = allocate(account.limit / 64 + 1, sizeof(uint64_t));
}

static int ready_count(void) {
    return clients.started - clients.opening;
}

/* Limits the concurrency: a burst beyond the server's backlog would measure the kernel's retransmits. */
static void open_clients(int64_t limit) {
    while (ready_count() < clients.total && account.closed == 0 && now() < limit) {
        while (clients.started < clients.total && clients.opening < options.concurrency)
            open_connection(&clients.all[clients.started++]);
        turn();
    }
}

static void open_all_clients(void) {
    open_clients(now() + SETUP_LIMIT * SECOND);
    if (ready_count() < clients.total)
        quit(1, "only %d of %d clients were ready in time", ready_count(), clients.total);
}

/* ---- publishing ---- */

static void find_blanks(void) {
    const char *start = publication.text.start, *at = start;
    size_t length = publication.text.length;
    while ((at = memmem(at, length - (size_t)(at - start), NUMBER_BLANK, NUMBER_DIGITS)) != NULL) {
        publication.blanks[publication.blank_count++] = (size_t)(at - start);
        at += NUMBER_DIGITS;
    }
    publication.time_at = (size_t)((char *)memmem(start, length, TIME_BLANK, TIME_DIGITS) - start);
}

/* Rows of JSON, which compress as those of real messages do, in place of one letter. The last field is a text again. */
static void write_rows(char *to, size_t length) {
    static const char *const words[] = {"amber", "basil", "copper", "delta", "ember", "fig", "garnet", "harbor",
                                        "iris", "juniper", "kelp", "linen", "maple", "nickel", "olive", "pepper"};
    struct bytes text = {0};
    append_format(&text, "x\",\"rows\":[{\"sku\":\"000000\"}");
    while (text.length + ROW_BYTES < length)
        append_format(&text, ",{\"sku\":\"%06X\",\"name\":\"%s %s\",\"price\":%u.%02u,\"count\":%u,\"in_stock\":%s}",
                      next_mask() & 0xffffff, words[next_mask() % 16], words[next_mask() % 16], next_mask() % 1000,
                      next_mask() % 100, next_mask() % 20, next_mask() % 4 ? "true" : "false");
    append_format(&text, "],\"rest\":\"");
    if (text.length < length)
        memcpy(to, text.start, text.length);
    free(text.start);
}

/* {"text":"@number.time.filler"}, padded so that the delivered event has the requested size. */
static void prepare_publication(void) {
    const char *opening = "{\"text\":\"@" NUMBER_BLANK "." TIME_BLANK ".";
    size_t around = options.dialect->event_overhead + strlen(opening) + strlen("\"}");
    size_t filler = (size_t)options.event_bytes > around ? (size_t)options.event_bytes - around : 1;
    struct bytes payload = {0};
    publication.filler = allocate(filler + 1, 1);
    publication.filler_length = filler;
    memset(publication.filler, 'x', filler);
    if (options.rows)
        write_rows(publication.filler, filler);
    append_format(&payload, "%s%s\"}", opening, publication.filler);
    append(&payload, "", 1);
    options.dialect->write_template(&publication.text, payload.start);
    free(payload.start);
    find_blanks();
}

static void publish(struct connection *publisher, int64_t time) {
    char *text = publication.text.start;
    uint64_t number = publisher->first_number + publisher->published++;
    for (int i = 0; i < publication.blank_count; i++)
        write_digits(text + publication.blanks[i], number, NUMBER_DIGITS);
    write_digits(text + publication.time_at, (uint64_t)time, TIME_DIGITS);
    if (publication.packet_id_at > 0) {
        uint16_t identifier = htons((uint16_t)(number % UINT16_MAX + 1));
        memcpy(text + publication.packet_id_at, &identifier, sizeof identifier);
    }
    say(publisher, text, publication.text.length);
    account.published++;
}

static struct connection *first_publisher(void) {
    return &clients.all[options.subscribers];
}

/* ---- reports ---- */

static uint64_t lost_deliveries(void) {
    return account.published * (uint64_t)options.subscribers - account.deliveries;
}

/* Ends the run's one line of JSON with the checks of every mode. Exit status 0 only if nothing is wrong. */
static void __attribute__((noreturn)) finish(bool complete) {
    bool right = complete && lost_deliveries() == 0 && account.duplicated == 0 && account.disordered == 0 &&
                 account.corrupt == 0 && account.refused == 0 && account.told_dropped == 0 && account.closed == 0;
    printf(",\"lost\":%" PRIu64 ",\"duplicated\":%" PRIu64 ",\"disordered\":%" PRIu64 ",\"corrupt\":%" PRIu64
           ",\"refused\":%" PRIu64 ",\"told_dropped\":%" PRIu64 ",\"closed\":%" PRIu64 ",\"complete\":%s,\"ok\":%s}\n",
           lost_deliveries(), account.duplicated, account.disordered, account.corrupt, account.refused,
           account.told_dropped, account.closed, complete ? "true" : "false", right ? "true" : "false");
    exit(right ? 0 : 1);
}

static void print_head(void) {
    printf("{\"mode\":\"%s\",\"dialect\":\"%s\",\"subscribers\":%d,\"publishers\":%d,\"window\":%d,\"event_bytes\":%d",
           options.mode->name, options.dialect->name, options.subscribers, options.publishers, options.window,
           options.event_bytes);
}

struct counts {
    uint64_t messages, deliveries, compressed, received;
};

static struct counts counts_now(void) {
    return (struct counts){account.published, account.deliveries, account.compressed, account.received};
}

static void print_throughput(struct counts since, int64_t elapsed) {
    double seconds = (double)elapsed / SECOND;
    uint64_t messages = account.published - since.messages, deliveries = account.deliveries - since.deliveries;
    printf(",\"messages\":%" PRIu64 ",\"deliveries\":%" PRIu64 ",\"seconds\":%.6f,\"messages_per_s\":%.1f"
           ",\"deliveries_per_s\":%.1f,\"compressed\":%" PRIu64 ",\"received_bytes\":%" PRIu64,
           messages, deliveries, seconds, (double)messages / seconds, (double)deliveries / seconds,
           account.compressed - since.compressed, account.received - since.received);
}

static int compare_latencies(const void *left, const void *right) {
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

static double percentile(double share) {
    if (account.deliveries == 0)
        return 0;
    return (double)account.latencies[(uint64_t)(share * (double)(account.deliveries - 1))] / 1000;
}

static void print_latencies(int64_t latest_send) {
    qsort(account.latencies, account.deliveries, sizeof *account.latencies, compare_latencies);
    printf(",\"rate\":%d,\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f,\"latest_send_us\":%.1f",
           options.rate, percentile(0.5), percentile(0.99), percentile(0.999), percentile(1),
           (double)latest_send / 1000);
}

/* ---- modes ---- */

/* With --wait: tells the driver that all clients are ready, and waits for its line. */
static void await_start(void) {
    if (options.wait)
        await_line("ready", now() + SETUP_LIMIT * SECOND);
}

/* With subscribers a message is in flight until all of them have it; without, until it is acknowledged. */
static uint64_t in_flight(const struct connection *publisher) {
    return options.subscribers > 0 ? account.published - account.completed
                                   : publisher->published - publisher->acknowledged;
}

static void fill_window(struct connection *publisher, uint64_t limit) {
    while (account.published < limit && in_flight(publisher) < (uint64_t)options.window)
        publish(publisher, now());
    flush(publisher);
}

static bool all_arrived(void) {
    bool acknowledged = !wants_acknowledgements() || account.acknowledged >= account.published;
    return acknowledged && (options.subscribers == 0 || account.completed >= account.published);
}

/* Runs a closed loop until `limit` messages are published or `end` has come; returns true if all of them arrived. */
static bool publish_until(uint64_t limit, int64_t end) {
    while (account.closed == 0 && account.refused == 0 && now() < end + DRAIN_LIMIT * SECOND) {
        if (now() >= end)
            limit = account.published;
        for (int i = 0; i < options.publishers; i++)
            fill_window(first_publisher() + i, limit);
        if (account.published >= limit && all_arrived())
            return true;
        turn();
    }
    return false;
}

/* Runs a tenth of the count and of the time first, not measured, to warm up compilers, caches and socket buffers. */
static void run_throughput(void) {
    open_all_clients();
    int64_t span = (int64_t)(options.seconds * SECOND);
    bool complete = publish_until(account.limit / 10, now() + span / 10);
    struct counts before = counts_now();
    await_start();
    int64_t start = now();
    complete = complete && publish_until(account.limit, start + span);
    int64_t elapsed = now() - start;
    print_head();
    print_throughput(before, elapsed);
    finish(complete);
}

static void start_timer(int64_t period) {
    struct itimerspec times = {
        .it_interval = {.tv_sec = period / SECOND, .tv_nsec = period % SECOND},
        .it_value = {.tv_nsec = 1},
    };
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &timer};
    prctl(PR_SET_TIMERSLACK, 1);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    timerfd_settime(timer, 0, &times, NULL);
    epoll_ctl(poller, EPOLL_CTL_ADD, timer, &event);
}

/* Publishes all messages that are due, each stamped with its due time; returns the delay of the first one. */
static int64_t publish_due(int64_t start, int64_t period, uint64_t limit) {
    int64_t late = 0;
    while (account.published < limit) {
        int64_t due = start + (int64_t)account.published * period;
        if (now() < due)
            break;
        if (late == 0)
            late = now() - due;
        publish(first_publisher(), due);
    }
    flush(first_publisher());
    return late;
}

/* Open loop: a slow server gets no pause, and latency is counted from the due time of a message. */
static void run_latency(void) {
    open_all_clients();
    int64_t period = SECOND / options.rate, latest_send = 0;
    uint64_t limit = (uint64_t)(options.seconds * options.rate);
    if (limit > account.limit)
        limit = account.limit;
    account.latencies = allocate(limit * (uint64_t)options.subscribers, sizeof *account.latencies);
    await_start();
    int64_t start = now(), end = start + (int64_t)limit * period + DRAIN_LIMIT * SECOND;
    start_timer(period);
    while ((account.published < limit || !all_arrived()) && account.closed == 0 && now() < end) {
        int64_t late = publish_due(start, period, limit);
        latest_send = late > latest_send ? late : latest_send;
        turn();
    }
    int64_t elapsed = now() - start;
    print_head();
    print_throughput((struct counts){0}, elapsed);
    print_latencies(latest_send);
    finish(account.published == limit && all_arrived());
}

/* Keeps the connections and answers pings until a line comes: meanwhile the driver reads the server's memory. */
static void run_connect(void) {
    await_start();
    int64_t start = now(), limit = start + (int64_t)(options.seconds * SECOND);
    open_clients(limit);
    double seconds = (double)(now() - start) / SECOND;
    int connected = ready_count();
    await_line("connected", limit);
    print_head();
    printf(",\"connected\":%d,\"seconds\":%.6f,\"connects_per_s\":%.1f", connected, seconds, connected / seconds);
    finish(connected == clients.total);
}

static const struct mode modes[] = {
    {"fanout", run_throughput, 100, 1, 50000000},
    {"latency", run_latency, 100, 1, 10000000},
    {"publish", run_throughput, 0, 1, 50000000},
    {"connect", run_connect, 10000, 0, 0},
};

/* ---- the command line ---- */

static const char help[] =
    "usage: load MODE --port N [options]\n"
    "\n"
    "Puts load on a publish/subscribe server on this machine and prints one line of JSON.\n"
    "Exit status: 0; 1 if a message was lost, duplicated, out of order or late; 2 for wrong arguments.\n"
    "\n"
    "modes\n"
    "  fanout    one publisher, a closed loop: a message is in flight until every subscriber has it\n"
    "  latency   one publisher at a fixed rate, an open loop: time from a message's due time to its delivery\n"
    "  publish   acknowledged publishes to a topic without subscribers\n"
    "  connect   connects and subscribes, then keeps all connections until a line comes on standard input\n"
    "\n"
    "options\n"
    "  --host ADDRESS         a loopback address (127.0.0.1)\n"
    "  --port N               port of the server\n"
    "  --dialect NAME         pubsub, durable, pubsub-sse, raw, nchan, nchan-sse, socketio, redis, redis-stream, nats,\n"
    "                         jetstream or mqtt; with -sse, the subscribers get Server-Sent Events\n"
    "  --topic NAME           topic of the messages (bench)\n"
    "  --subscribers N        number of subscribers (100; connect: 10000)\n"
    "  --publishers N         number of publishers, publish only (1)\n"
    "  --window N             messages in flight for each publisher (20)\n"
    "  --rate N               messages a second, latency only (100)\n"
    "  --event-bytes N        size of a delivered event (300)\n"
    "  --count N              greatest number of deliveries (fanout, latency) or publishes (50 million)\n"
    "  --seconds S            greatest duration; messages in flight may take 10 seconds more (10)\n"
    "  --concurrency N        greatest number of connections that open at once (500)\n"
    "  --sleep MS             longest sleep while nothing arrives; 0: never sleep, so that no server has to wake it (50)\n"
    "  --tokens FILE          pubsub only: a token in each line, the first of an admin, line N for the client load-N\n"
    "  --names NAME           pubsub only: topic or pattern to subscribe to, in place of the topic; '#' in it becomes a\n"
    "                         number of the subscription\n"
    "  --each N               pubsub only: subscriptions of each subscriber, with --names (1)\n"
    "  --filters N            pubsub, pubsub-sse: filters over which the subscribers are spread; 0: none (0)\n"
    "  --deflate 1            fanout only: subscribers offer permessage-deflate, and do not inflate what comes (0)\n"
    "  --rows 1               payloads with rows of JSON, which compress as real ones do, in place of one letter (0)\n"
    "  --wait                 print a line when ready, and wait for a line on standard input before measuring\n"
    "\n"
    "In fanout and publish, a tenth of the time or count runs first and is not measured.\n";

static const struct option long_options[] = {
    {"host", required_argument, NULL, 'h'},        {"port", required_argument, NULL, 'p'},
    {"dialect", required_argument, NULL, 'd'},     {"topic", required_argument, NULL, 't'},
    {"subscribers", required_argument, NULL, 's'}, {"publishers", required_argument, NULL, 'c'},
    {"window", required_argument, NULL, 'w'},      {"rate", required_argument, NULL, 'r'},
    {"event-bytes", required_argument, NULL, 'e'}, {"count", required_argument, NULL, 'n'},
    {"seconds", required_argument, NULL, 'l'},     {"concurrency", required_argument, NULL, 'o'},
    {"sleep", required_argument, NULL, 'S'},       {"tokens", required_argument, NULL, 'T'},
    {"names", required_argument, NULL, 'N'},       {"each", required_argument, NULL, 'E'},
    {"filters", required_argument, NULL, 'F'},
    {"deflate", required_argument, NULL, 'D'},     {"rows", required_argument, NULL, 'R'},
    {"wait", no_argument, NULL, 'W'},              {"help", no_argument, NULL, 'H'},
    {NULL, 0, NULL, 0},
};

static double number_between(const char *text, double least, double most) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= least && value <= most))
        quit(2, "%s is not a number from %.10g to %.10g", text, least, most);
    return value;
}

static int count_between(const char *text, int least, int most) {
    return (int)number_between(text, least, most);
}

#define NAME_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-."

static const char *topic_of(const char *text) {
    if (*text == '\0' || strlen(text) > 120 || text[strspn(text, NAME_CHARACTERS)] != '\0')
        quit(2, "--topic must have 1 to 120 letters, digits, _, - and .");
    return text;
}

static const char *names_of(const char *text) {
    if (*text == '\0' || strlen(text) > 120 || text[strspn(text, NAME_CHARACTERS "*>#")] != '\0')
        quit(2, "--names must have 1 to 120 letters, digits, _, -, ., *, > and #");
    return text;
}

static const struct dialect *dialect_named(const char *name) {
    for (size_t i = 0; i < sizeof dialects / sizeof *dialects; i++)
        if (strcmp(dialects[i].name, name) == 0)
            return &dialects[i];
    quit(2, "--dialect %s is unknown; see --help", name);
}

static const struct mode *mode_named(const char *name) {
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        if (strcmp(modes[i].name, name) == 0)
            return &modes[i];
    quit(2, "mode %s is unknown; see --help", name);
}

static char **read_lines(const char *path) {
    FILE *file = fopen(path, "r");
    char **lines = NULL;
    size_t count = 0;
    if (file == NULL)
        quit(2, "%s can't be read", path);
    do {
        lines = realloc(lines, (count + 1) * sizeof *lines);
        lines[count] = NULL;
        if (getline(&lines[count], &(size_t){0}, file) < 0)
            break;
        lines[count][strcspn(lines[count], "\n")] = '\0';
    } while (++count);
    fclose(file);
    return lines;
}

static void read_option(int letter, const char *text) {
    switch (letter) {
    case 'h': options.host = text; break;
    case 'p': options.port = count_between(text, 1, 65535); break;
    case 'd': options.dialect = dialect_named(text); break;
    case 't': options.topic = topic_of(text); break;
    case 's': options.subscribers = count_between(text, 0, 100000); break;
    case 'c': options.publishers = count_between(text, 1, 900); break;
    case 'w': options.window = count_between(text, 1, 10000); break;
    case 'r': options.rate = count_between(text, 1, 1000000); break;
    case 'e': options.event_bytes = count_between(text, 64, 15000); break;
    case 'n': options.count = (uint64_t)number_between(text, 1, 999999999); break;
    case 'l': options.seconds = number_between(text, 0.1, 3600); break;
    case 'o': options.concurrency = count_between(text, 1, 4000); break;
    case 'S': options.sleep = count_between(text, 0, 1000); break;
    case 'T': options.tokens = read_lines(text); break;
    case 'N': options.names = names_of(text); break;
    case 'E': options.each = count_between(text, 1, 10000); break;
    case 'F': options.filters = count_between(text, 0, 100000); break;
    case 'D': options.deflate = count_between(text, 0, 1) == 1; break;
    case 'R': options.rows = count_between(text, 0, 1) == 1; break;
    case 'W': options.wait = true; break;
    case 'H': fputs(help, stdout); exit(0);
    default: quit(2, "see --help");
    }
}

static void read_options(int argc, char **argv) {
    int letter;
    options.dialect = &dialects[0];
    while ((letter = getopt_long(argc, argv, "", long_options, NULL)) != -1)
        read_option(letter, optarg);
    if (optind != argc - 1 || options.port == 0)
        quit(2, "a mode and --port are required; see --help");
    options.mode = mode_named(argv[optind]);
}

/* Takes the options that were not given from the mode or the dialect. */
static void complete_options(void) {
    if (options.subscribers < 0 || options.mode->subscribers == 0)
        options.subscribers = options.mode->subscribers;
    if (options.publishers < 0 || options.mode->subscribers > 0)
        options.publishers = options.mode->publishers;
    if (options.count == 0)
        options.count = options.mode->count;
    if (options.deflate && options.mode->run != run_throughput)
        quit(2, "--deflate is for fanout");
    if (options.subscribers == 0 && options.mode->subscribers > 0)
        quit(2, "%s needs subscribers", options.mode->name);
    account.limit = options.subscribers > 0 ? options.count / (uint64_t)options.subscribers : options.count;
}

static void raise_descriptor_limit(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if ((rlim_t)clients.total + 16 > limit.rlim_cur)
        quit(2, "%d clients need more descriptors than the %ju allowed", clients.total, (uintmax_t)limit.rlim_cur);
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    complete_options();
    poller = epoll_create1(0);
    account.reached = allocate(account.limit + 1, sizeof *account.reached);
    plan_clients();
    raise_descriptor_limit();
    prepare_publication();
    if (options.dialect->prepare != NULL)
        options.dialect->prepare();
    options.mode->run();
}
