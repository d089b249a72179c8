/* What a peer may say to the HTTP server: the bytes after the first come in two parts, cut where
 * the first says. Whatever comes, no assertion of the server or its library fails, and when the
 * peer has left, its connection is gone. */
#include "base/check.h"
#include "base/metrics.h"
#include "http/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

enum { POST_MAX = 64, HEAD_MAX = 4096, TURNS = 12, TURNS_MAX = 10000 };

static struct {
    struct osm_loop *loop;
    struct osm_http *http;
    struct osm_http_listener *listener;
    struct osm_http_request *kept;
} server;

static void at_once(void *ud, struct osm_http_request *request)
{
    (void)ud;
    const char *x = osm_http_query(request, "x");
    osm_http_reply_text(request, 200, x ? x : "none");
}

static int piece(void *ud, struct osm_buf *out)
{
    int *left = ud;
    (void)osm_buf_add_str(out, "some of the text\n");
    return --*left > 0;
}

static void piece_end(void *ud)
{
    (void)ud;
}

static void streamed(void *ud, struct osm_http_request *request)
{
    static int left;
    (void)ud;
    left = 5;
    osm_http_reply_stream(request, 200, "text/plain",
                          &(struct osm_http_source){&left, piece, piece_end});
}

static void later(void *ud, struct osm_http_request *request)
{
    (void)ud;
    if (server.kept)
        osm_http_reply_text(server.kept, 503, "another has come");
    server.kept = request;
}

static void posted(void *ud, struct osm_http_request *request)
{
    (void)ud;
    size_t len;
    const char *body = osm_http_body(request, &len);
    const char *type = osm_http_header(request, "content-type");
    OSM_REQUIRE(len <= POST_MAX && !body[len] && (!type || strlen(type) <= HEAD_MAX));
    osm_http_reply_text(request, 200, body);
}

static const struct osm_http_route routes[] = {
    {"/a", at_once, NULL, 0},       {"/b", streamed, NULL, 0},     {"/c", later, NULL, 0},
    {"/p", posted, NULL, POST_MAX}, {"/q", later, NULL, POST_MAX}, {NULL, NULL, NULL, 0},
};

static void turn(int times)
{
    for (int i = 0; i < times; i++)
        (void)uv_run(osm_loop_uv(server.loop), UV_RUN_NOWAIT);
}

static void start(void)
{
    const struct osm_http_listen config = {"127.0.0.1:0", "--x", false, routes,
                                           NULL,          {0},   NULL,  NULL};
    OSM_REQUIRE(!osm_loop_new(&server.loop, NULL) &&
                !osm_http_new(&server.http, server.loop, NULL));
    OSM_REQUIRE(!osm_http_listen(&server.listener, server.http, &config, NULL));
}

static int client(void)
{
    const char *at = osm_http_address(server.listener);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port =
                                      htons((uint16_t)strtoul(strrchr(at, ':') + 1, NULL, 10))};
    /* From another address each time: ports stay behind in TIME_WAIT. */
    static unsigned from;
    struct sockaddr_in own = {.sin_family = AF_INET,
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK + from++ % 60000)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    OSM_REQUIRE(!bind(fd, (struct sockaddr *)&own, sizeof own));
    while (connect(fd, (struct sockaddr *)&address, sizeof address))
        OSM_REQUIRE(errno == EINTR); /* the fuzzer's own alarm */
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    char drained[4096];
    if (!server.loop)
        start();
    if (!len)
        return 0;
    size_t cut = data[0] < len - 1 ? data[0] : len - 1;
    long live = osm_mem_live();
    int fd = client();
    (void)send(fd, data + 1, cut, MSG_NOSIGNAL | MSG_DONTWAIT);
    turn(TURNS);
    (void)send(fd, data + 1 + cut, len - 1 - cut, MSG_NOSIGNAL | MSG_DONTWAIT);
    turn(TURNS);
    while (recv(fd, drained, sizeof drained, MSG_DONTWAIT) > 0)
        turn(1);
    if (server.kept) {
        osm_http_reply_text(server.kept, 200, "later");
        server.kept = NULL;
        turn(TURNS);
    }
    (void)close(fd);
    osm_metrics_clear();
    for (int i = 0; i < TURNS_MAX && osm_mem_live() > live; i++) {
        turn(1);
        if (server.kept) /* what was behind the one that was answered */
            osm_http_reply_text(osm_take_ptr(&server.kept), 200, "later still");
        osm_metrics_clear();
    }
    OSM_REQUIRE(osm_mem_live() <= live);
    return 0;
}
