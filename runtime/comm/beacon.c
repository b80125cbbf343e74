/*
 * A star of TCP connections around rank 0. What travels is a stream of `struct beat` (all ranks run
 * the same build, so the layout is the same); a connection starts with a hello that carries the
 * token, which rank 0 answers with the token, because an address of another host's private network
 * may belong to a stranger here.
 *
 * IPv4 only. A tree was rejected: at 64 hosts of 8 ranks rank 0 sends 6 MB/s, and a star has one
 * hop to lose.
 */
#include "runtime/comm/beacon.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ANSWER_TIMEOUT_MS = 2000, READ_SIZE = 64 * 1024 };

struct hello {
    char magic[8];
    uint8_t token[BEACON_TOKEN_SIZE];
    int32_t leader;
    int32_t reserved;
};
static const char magic[8] = "weftbeat";

struct link {
    int fd;      /* -1 = closed */
    int leader;  /* the rank at the other end, -1 before its hello */
    size_t have; /* bytes of a record (or hello) that is not complete yet */
    char part[sizeof(struct beat)];
    struct beat *out;          /* owned; one send, [size] */
    size_t out_size, out_sent; /* bytes */
};

struct beacon {
    const struct comm *comm;
    struct beat_slot *slots;
    uint8_t token[BEACON_TOKEN_SIZE];
    int listener; /* rank 0, else -1 */
    struct link *links;
    int num_links, capacity;
    bool has_new_link; /* since the last send */
};

static struct beacon *beacon_new(const struct comm *comm, struct beat_slot *slots, int capacity)
{
    struct beacon *beacon = calloc(1, sizeof *beacon);
    if (!beacon) return NULL;
    beacon->links = calloc((size_t)capacity, sizeof *beacon->links);
    if (!beacon->links) {
        free(beacon);
        return NULL;
    }
    beacon->comm = comm;
    beacon->slots = slots;
    beacon->listener = -1;
    beacon->capacity = capacity;
    return beacon;
}

void beacon_destroy(struct beacon **beacon)
{
    struct beacon *b = *beacon;
    if (!b) return;
    for (int i = 0; i < b->num_links; i++) {
        if (b->links[i].fd >= 0) close(b->links[i].fd);
        free(b->links[i].out);
    }
    if (b->listener >= 0) close(b->listener);
    free(b->links);
    free(b);
    *beacon = NULL;
}

/* Takes the socket over; closes it when there is no room (a stranger knocking). */
static struct link *add_link(struct beacon *beacon, int fd, int leader)
{
    struct link *link = NULL;
    for (int i = 0; i < beacon->num_links && !link; i++) {
        if (beacon->links[i].fd < 0) link = &beacon->links[i];
    }
    if (!link && beacon->num_links < beacon->capacity) link = &beacon->links[beacon->num_links++];
    if (!link) {
        close(fd);
        return NULL;
    }
    if (!link->out) link->out = malloc((size_t)beacon->comm->size * sizeof *link->out);
    if (!link->out) {
        close(fd);
        link->fd = -1;
        return NULL;
    }
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    link->fd = fd;
    link->leader = leader;
    link->have = link->out_size = link->out_sent = 0;
    return link;
}

static void drop_link(struct beacon *beacon, struct link *link)
{
    if (link->leader >= 0) beat_raise_state(&beacon->slots[link->leader], BEAT_DEAD);
    close(link->fd);
    link->fd = -1;
}

/* ---- connecting ---- */

/* This host's addresses, usable ones first, as "ip port" lines; loopback last, for ranks of one
 * machine that count as hosts of their own. */
static void list_addresses(int port, char *text, size_t size)
{
    struct ifaddrs *list = NULL;
    size_t used = 0;
    text[0] = '\0';
    if (getifaddrs(&list) != 0) return;
    for (int want_loopback = 0; want_loopback < 2; want_loopback++) {
        for (struct ifaddrs *i = list; i; i = i->ifa_next) {
            char ip[INET6_ADDRSTRLEN];
            bool is_loopback = i->ifa_flags & IFF_LOOPBACK;
            if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET || !(i->ifa_flags & IFF_UP) ||
                is_loopback != (want_loopback == 1))
                continue;
            const struct sockaddr_in *address = (const struct sockaddr_in *)(void *)i->ifa_addr;
            inet_ntop(AF_INET, &address->sin_addr, ip, sizeof ip);
            int length = snprintf(text + used, size - used, "%s %d\n", ip, port);
            if (length < 0 || (size_t)length >= size - used) break;
            used += (size_t)length;
        }
    }
    text[used] = '\0';
    freeifaddrs(list);
}

enum status beacon_listen(const struct comm *comm, struct beat_slot *slots,
                          struct beacon_invitation *invitation, struct beacon **created)
{
    memset(invitation, 0, sizeof *invitation);
    CHECK(getrandom(invitation->token, sizeof invitation->token, 0) == sizeof invitation->token,
          STATUS_IO, "no random numbers for the token of the heartbeat connections");
    /* Twice the hosts: strangers may knock. */
    struct beacon *beacon = beacon_new(comm, slots, 2 * comm->num_hosts + 8);
    CHECK(beacon, STATUS_NO_MEMORY, "no memory for the connections to %d hosts", comm->num_hosts);
    memcpy(beacon->token, invitation->token, sizeof beacon->token);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_ANY)};
    socklen_t length = sizeof address;
    beacon->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (beacon->listener < 0 ||
        bind(beacon->listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(beacon->listener, SOMAXCONN) != 0 ||
        getsockname(beacon->listener, (struct sockaddr *)&address, &length) != 0) {
        int problem = errno;
        beacon_destroy(&beacon);
        return status_fail(STATUS_IO, "cannot listen for heartbeats of other hosts: %s",
                           strerror(problem));
    }
    list_addresses(ntohs(address.sin_port), invitation->addresses, sizeof invitation->addresses);
    *created = beacon;
    return STATUS_OK;
}

static bool wait_for(int fd, short events)
{
    struct pollfd entry = {.fd = fd, .events = events};
    return poll(&entry, 1, ANSWER_TIMEOUT_MS) == 1 && (entry.revents & events);
}

/* A connected socket that has answered with the token, or -1. */
static int try_address(const char *ip, int port, const struct hello *hello)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, ip, &address.sin_addr) != 1) return -1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    int problem = 0;
    socklen_t length = sizeof problem;
    uint8_t answer[BEACON_TOKEN_SIZE];
    bool is_connected =
        connect(fd, (struct sockaddr *)&address, sizeof address) == 0 ||
        (errno == EINPROGRESS && wait_for(fd, POLLOUT) &&
         getsockopt(fd, SOL_SOCKET, SO_ERROR, &problem, &length) == 0 && problem == 0);
    if (is_connected && send(fd, hello, sizeof *hello, MSG_NOSIGNAL) == sizeof *hello &&
        wait_for(fd, POLLIN) && recv(fd, answer, sizeof answer, 0) == sizeof answer &&
        memcmp(answer, hello->token, sizeof answer) == 0)
        return fd;
    close(fd);
    return -1;
}

enum status beacon_connect(const struct comm *comm, struct beat_slot *slots,
                           const struct beacon_invitation *invitation, struct beacon **created)
{
    struct hello hello = {.leader = comm->rank};
    memcpy(hello.magic, magic, sizeof magic);
    memcpy(hello.token, invitation->token, sizeof hello.token);
    const char *line = invitation->addresses;
    int fd = -1;
    while (*line && fd < 0) {
        char ip[64];
        int port = 0;
        if (sscanf(line, "%63s %d", ip, &port) == 2) fd = try_address(ip, port, &hello);
        line += strcspn(line, "\n");
        line += *line == '\n';
    }
    CHECK(fd >= 0, STATUS_IO, "rank %d on %s: no address of rank 0's host %s answers", comm->rank,
          comm->host, comm->hosts[0]);
    struct beacon *beacon = beacon_new(comm, slots, 1);
    if (!beacon || !add_link(beacon, fd, 0)) {
        if (!beacon) close(fd);
        beacon_destroy(&beacon);
        return status_fail(STATUS_NO_MEMORY, "no memory for the heartbeat connection");
    }
    beacon->has_new_link = true;
    *created = beacon;
    return STATUS_OK;
}

/* ---- receiving ---- */

/* Whether the rank at the other end may tell about `rank`. */
static bool may_tell(const struct beacon *beacon, const struct link *link, int rank)
{
    const struct comm *comm = beacon->comm;
    if (rank < 0 || rank >= comm->size) return false;
    if (comm->rank == 0) return comm->leaders[rank] == link->leader;
    return comm->leaders[rank] != comm->leader;
}

static bool accept_hello(struct beacon *beacon, struct link *link)
{
    struct hello hello;
    memcpy(&hello, link->part, sizeof hello);
    const struct comm *comm = beacon->comm;
    if (memcmp(hello.magic, magic, sizeof magic) != 0 ||
        memcmp(hello.token, beacon->token, sizeof hello.token) != 0 || hello.leader <= 0 ||
        hello.leader >= comm->size || comm->leaders[hello.leader] != hello.leader)
        return false;
    ssize_t sent = send(link->fd, beacon->token, sizeof beacon->token, MSG_NOSIGNAL);
    if (sent != sizeof beacon->token) return false;
    link->leader = hello.leader;
    beacon->has_new_link = true;
    return true;
}

/* Cuts the stream into records; false ends the connection. */
static bool take_in(struct beacon *beacon, struct link *link, const char *bytes, size_t length)
{
    while (length > 0) {
        size_t whole = link->leader < 0 ? sizeof(struct hello) : sizeof(struct beat);
        size_t take = whole - link->have < length ? whole - link->have : length;
        memcpy(link->part + link->have, bytes, take);
        link->have += take;
        bytes += take;
        length -= take;
        if (link->have < whole) break;
        link->have = 0;
        if (link->leader < 0) {
            if (!accept_hello(beacon, link)) return false;
            continue;
        }
        struct beat beat;
        memcpy(&beat, link->part, sizeof beat);
        if (may_tell(beacon, link, beat.rank)) beat_write(&beacon->slots[beat.rank], &beat);
    }
    return true;
}

static void receive(struct beacon *beacon, struct link *link)
{
    char bytes[READ_SIZE];
    for (;;) {
        ssize_t length = recv(link->fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (length < 0 && errno == EINTR) continue;
        if (length < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
        if (length <= 0 || !take_in(beacon, link, bytes, (size_t)length)) {
            drop_link(beacon, link);
            return;
        }
    }
}

/* ---- sending ---- */

/* A connection that is gone is noticed by receive(), which first reads the last news from it. */
static void flush_link(struct link *link)
{
    while (link->out_sent < link->out_size) {
        ssize_t sent = send(link->fd, (char *)link->out + link->out_sent,
                            link->out_size - link->out_sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
        if (sent < 0) sent = (ssize_t)(link->out_size - link->out_sent);
        link->out_sent += (size_t)sent;
    }
}

bool beacon_has_new_link(const struct beacon *beacon)
{
    return beacon->has_new_link;
}

void beacon_send(struct beacon *beacon)
{
    const struct comm *comm = beacon->comm;
    beacon->has_new_link = false;
    for (int i = 0; i < beacon->num_links; i++) {
        struct link *link = &beacon->links[i];
        if (link->fd < 0 || link->leader < 0 || link->out_sent < link->out_size) continue;
        link->out_size = link->out_sent = 0;
        for (int r = 0; r < comm->size; r++) {
            bool is_theirs = comm->leaders[r] == link->leader;
            bool is_ours = comm->leaders[r] == comm->leader;
            if (comm->rank == 0 ? is_theirs : !is_ours) continue;
            struct beat beat;
            beat_read(&beacon->slots[r], r, &beat);
            memcpy((char *)link->out + link->out_size, &beat, sizeof beat);
            link->out_size += sizeof beat;
        }
        flush_link(link);
    }
}

/* ---- polling ---- */

int beacon_poll_size(const struct beacon *beacon)
{
    return beacon->capacity + 1;
}

int beacon_poll_fill(struct beacon *beacon, struct pollfd *entries)
{
    int n = 0;
    if (beacon->listener >= 0)
        entries[n++] = (struct pollfd){.fd = beacon->listener, .events = POLLIN};
    for (int i = 0; i < beacon->num_links; i++) {
        struct link *link = &beacon->links[i];
        if (link->fd < 0) continue;
        bool is_sending = link->out_sent < link->out_size;
        entries[n++] =
            (struct pollfd){.fd = link->fd, .events = (short)(POLLIN | (is_sending ? POLLOUT : 0))};
    }
    return n;
}

void beacon_poll_handle(struct beacon *beacon, const struct pollfd *entries, int num_entries)
{
    for (int e = 0; e < num_entries; e++) {
        if (!entries[e].revents) continue;
        if (entries[e].fd == beacon->listener) {
            int fd = accept4(beacon->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (fd >= 0) add_link(beacon, fd, -1);
            continue;
        }
        for (int i = 0; i < beacon->num_links; i++) {
            struct link *link = &beacon->links[i];
            if (link->fd != entries[e].fd) continue;
            if (entries[e].revents & POLLOUT) flush_link(link);
            if (link->fd >= 0 && (entries[e].revents & ~POLLOUT)) receive(beacon, link);
            break;
        }
    }
}
