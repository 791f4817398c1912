/*
 * The floor of the benchmark: the least that any server can spend on the load generator's `pubsub` dialect.
 *
 * A minimal loop that reads the publishers' frames with one call, builds the same event bytes that a server would send,
 * and writes them to each subscriber with one call, and one more call for the acknowledgements. It parses, checks and
 * stores nothing: it relies on the exact layout of the generator's frames and must never serve another client.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER_BYTES (1 << 20)
#define DESCRIPTORS 65536
#define TIME_STAMP ",\"ts\":\"2025-08-25T10:00:00Z\"}"
#define REQUEST_ID_BYTES (sizeof ",\"request_id\":\"#000000000000\"}" - 1)

struct buffer {
    char bytes[2 * BUFFER_BYTES];
    size_t length;
};

struct client {
    char *rest;  /* the received part of an incomplete frame */
    size_t rest_length;
    int upgraded;
    int place;  /* in `subscribers`, from 1; 0: does not subscribe */
};

static struct client clients[DESCRIPTORS];
static int subscribers[DESCRIPTORS], subscriber_count, poller;
static unsigned long sequence;
static struct buffer events, answers;
static char input[BUFFER_BYTES];

static void append(struct buffer *buffer, const char *from, size_t length) {
    memcpy(buffer->bytes + buffer->length, from, length);
    buffer->length += length;
}

static void append_text(struct buffer *buffer, const char *text) {
    append(buffer, text, strlen(text));
}

/* Writes may block: the generator always reads, and waiting costs no CPU. */
static void write_out(int fd, struct buffer *buffer) {
    for (size_t sent = 0; sent < buffer->length;) {
        ssize_t more = send(fd, buffer->bytes + sent, buffer->length - sent, MSG_NOSIGNAL);
        if (more <= 0)
            break;
        sent += (size_t)more;
    }
}

/* Leaves room for a four-byte frame head, also for short frames; end_frame() fills it in. */
static size_t begin_frame(struct buffer *buffer) {
    buffer->length += 4;
    return buffer->length;
}

static void end_frame(struct buffer *buffer, size_t body) {
    uint16_t length = htons((uint16_t)(buffer->length - body));
    memcpy(buffer->bytes + body - 4, "\x81\x7e", 2);
    memcpy(buffer->bytes + body - 2, &length, 2);
}

static void answer(const char *request_id, size_t length) {
    size_t body = begin_frame(&answers);
    append_text(&answers, "{\"type\":\"ack\",\"topic\":\"bench\",\"status\":\"ok\"");
    append(&answers, request_id, length);
    end_frame(&answers, body);
}

static void subscribe(int fd) {
    subscribers[subscriber_count] = fd;
    clients[fd].place = ++subscriber_count;
    answer("}", 1);
}

/* {"type":"publish","topic":…,"message":…,"request_id":…}: the event has the part between the first and the last. */
static void publish(const char *text, size_t length) {
    static const char opening[] = "{\"type\":\"event\"";
    static const size_t skipped = sizeof "{\"type\":\"publish\"" - 1;
    char number[32];
    size_t body = begin_frame(&events);
    append_text(&events, opening);
    append(&events, text + skipped, length - skipped - REQUEST_ID_BYTES);
    append(&events, number, (size_t)snprintf(number, sizeof number, ",\"seq\":%lu", ++sequence));
    append_text(&events, TIME_STAMP);
    end_frame(&events, body);
    answer(text + length - REQUEST_ID_BYTES, REQUEST_ID_BYTES);
}

static void take_text(int fd, char *text, size_t length) {
    if (memcmp(text, "{\"type\":\"p", 10) == 0)
        publish(text, length);
    else
        subscribe(fd);
}

static void unmask(char *text, size_t length, const char key[4]) {
    uint64_t pair, chunk;
    size_t i = 0;
    memcpy(&pair, key, 4);
    memcpy((char *)&pair + 4, key, 4);
    for (; i + 8 <= length; i += 8) {
        memcpy(&chunk, text + i, 8);
        chunk ^= pair;
        memcpy(text + i, &chunk, 8);
    }
    for (; i < length; i++)
        text[i] ^= key[i & 3];
}

/* Takes every complete frame and returns the bytes used. */
static size_t take_frames(int fd, char *start, size_t length) {
    size_t used = 0;
    while (length - used >= 8) {
        unsigned char *at = (unsigned char *)start + used;
        size_t body = at[1] & 127, head = body < 126 ? 2 : 4;
        if (head == 4)
            body = (size_t)at[2] << 8 | at[3];
        if (length - used < head + 4 + body)
            break;
        unmask((char *)at + head + 4, body, (char *)at + head);
        take_text(fd, (char *)at + head + 4, body);
        used += head + 4 + body;
    }
    return used;
}

/* POST makes a topic, GET becomes a WebSocket; the generator does not check the key's answer. */
static size_t take_request(int fd, char *start, size_t length) {
    static const char created[] = "HTTP/1.1 201 Created\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    static const char upgraded[] = "HTTP/1.1 101 Switching Protocols\r\n\r\n";
    if (memmem(start, length, "\r\n\r\n", 4) == NULL)
        return 0;
    clients[fd].upgraded = start[0] == 'G';
    append_text(&answers, clients[fd].upgraded ? upgraded : created);
    return length;
}

static void forget(int fd) {
    struct client *client = &clients[fd];
    if (client->place > 0) {
        int last = subscribers[--subscriber_count];
        subscribers[client->place - 1] = last;
        clients[last].place = client->place;
    }
    free(client->rest);
    memset(client, 0, sizeof *client);
    close(fd);
}

static void keep_rest(struct client *client, const char *from, size_t length) {
    client->rest_length = length;
    if (length > 0)
        memcpy(client->rest = realloc(client->rest, length), from, length);
}

static void serve(int fd) {
    struct client *client = &clients[fd];
    memcpy(input, client->rest ? client->rest : "", client->rest_length);
    ssize_t got = recv(fd, input + client->rest_length, sizeof input - client->rest_length, MSG_DONTWAIT);
    if (got <= 0)
        return forget(fd);
    size_t length = client->rest_length + (size_t)got;
    events.length = answers.length = 0;
    size_t used = client->upgraded ? take_frames(fd, input, length) : take_request(fd, input, length);
    keep_rest(client, input + used, length - used);
    for (int i = 0; events.length > 0 && i < subscriber_count; i++)
        write_out(subscribers[i], &events);
    write_out(fd, &answers);
}

static void watch(int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
}

static int listen_on(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 4096) < 0) {
        perror("floor");
        exit(1);
    }
    return fd;
}

static void accept_all(int listener) {
    for (int fd, on = 1; (fd = accept4(listener, NULL, NULL, 0)) >= 0;) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (fd < DESCRIPTORS)
            watch(fd);
        else
            close(fd);
    }
}

int main(int argc, char **argv) {
    static struct epoll_event ready[1024];
    if (argc != 2) {
        fputs("usage: floor PORT\n", stderr);
        return 2;
    }
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    int listener = listen_on(atoi(argv[1]));
    poller = epoll_create1(0);
    watch(listener);
    for (;;) {
        int count = epoll_wait(poller, ready, 1024, -1);
        for (int i = 0; i < count; i++) {
            if (ready[i].data.fd == listener)
                accept_all(listener);
            else
                serve(ready[i].data.fd);
        }
    }
}
