/* A peer's socket, plain or with TLS on it. */
#include "http/http_priv.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { DRAINS_MAX = 16 };

int osm__http_wire_init(struct osm__http_wire *wire, int fd, struct ssl_ctx_st *tls)
{
    SSL *ssl = NULL;
    if (tls) {
        ERR_clear_error();
        ssl = SSL_new(tls);
        if (!ssl || SSL_set_fd(ssl, fd) != 1) {
            SSL_free(ssl);
            ERR_clear_error();
            return OSM_ENOMEM;
        }
        SSL_set_accept_state(ssl);
    }
    *wire = (struct osm__http_wire){.fd = fd, .ssl = ssl};
    return 0;
}

static ssize_t outcome(ssize_t n)
{
    if (n >= 0)
        return n;
    return errno == EAGAIN || errno == EINTR ? OSM__HTTP_WIRE_AGAIN : OSM__HTTP_WIRE_BROKEN;
}

static ssize_t tls_outcome(struct osm__http_wire *wire, int rc)
{
    int error = SSL_get_error(wire->ssl, rc);
    ERR_clear_error();
    wire->writes_to_read = error == SSL_ERROR_WANT_WRITE;
    switch (error) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return OSM__HTTP_WIRE_AGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return OSM__HTTP_WIRE_END;
    default:
        wire->broken = true;
        return OSM__HTTP_WIRE_BROKEN;
    }
}

ssize_t osm__http_wire_read(struct osm__http_wire *wire, char *to, size_t len)
{
    size_t n;
    if (!wire->ssl)
        return outcome(recv(wire->fd, to, len, MSG_DONTWAIT));
    ERR_clear_error();
    int rc = SSL_read_ex(wire->ssl, to, len, &n);
    wire->writes_to_read = false;
    return rc == 1 ? (ssize_t)n : tls_outcome(wire, rc);
}

ssize_t osm__http_wire_write(struct osm__http_wire *wire, const char *from, size_t len)
{
    size_t n;
    if (!wire->ssl)
        return outcome(send(wire->fd, from, len, MSG_NOSIGNAL | MSG_DONTWAIT));
    ERR_clear_error();
    int rc = SSL_write_ex(wire->ssl, from, len, &n); /* SIGPIPE: libwebsockets has it ignored */
    return rc == 1 ? (ssize_t)n : tls_outcome(wire, rc);
}

bool osm__http_wire_holds(const struct osm__http_wire *wire)
{
    return wire->ssl && SSL_has_pending(wire->ssl);
}

bool osm__http_wire_readable(const struct osm__http_wire *wire)
{
    int unread = 0;
    return (wire->ssl && SSL_pending(wire->ssl) > 0) ||
           (!ioctl(wire->fd, FIONREAD, &unread) && unread > 0);
}

bool osm__http_wire_unread(const struct osm__http_wire *wire)
{
    return osm__http_wire_holds(wire) || osm__http_wire_readable(wire);
}

static void say_goodbye(struct osm__http_wire *wire)
{
    if (!wire->ssl || wire->broken || !SSL_is_init_finished(wire->ssl))
        return;
    ERR_clear_error();
    (void)SSL_shutdown(wire->ssl);
    ERR_clear_error();
}

void osm__http_wire_shut(struct osm__http_wire *wire)
{
    say_goodbye(wire);
    (void)shutdown(wire->fd, SHUT_WR);
}

/* What is left unread would reset the connection, and the end of an answer with it. */
static void drain(int fd)
{
    char unread[4096];
    for (int i = 0; i < DRAINS_MAX && recv(fd, unread, sizeof unread, MSG_DONTWAIT) > 0; i++) {
    }
}

void osm__http_wire_close(struct osm__http_wire *wire, bool at_once)
{
    const struct linger now = {.l_onoff = 1, .l_linger = 0};
    if (at_once) {
        (void)setsockopt(wire->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    } else {
        say_goodbye(wire);
        drain(wire->fd);
    }
    SSL_free(wire->ssl);
    (void)close(wire->fd);
    *wire = (struct osm__http_wire){.fd = -1};
}
