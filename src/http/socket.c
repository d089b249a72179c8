/* Listening sockets: where they may be, and what they are called. */
#include "http/http_priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static bool is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr) >> 24 ==
               127;
    return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr);
}

/* "127.0.0.1:9091" or "[::1]:9091". NULL: OSM_EINVAL. */
static struct addrinfo *parse_address(const char *text, const char *flag, struct osm_err *err)
{
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                                   .ai_socktype = SOCK_STREAM};
    struct addrinfo *address;
    char host[OSM__HTTP_ADDRESS_SIZE];
    const char *colon = strrchr(text, ':');
    size_t n = colon ? (size_t)(colon - text) : 0;
    bool bracketed = n > 2 && text[0] == '[' && text[n - 1] == ']';
    if (n && n < sizeof host && colon[1]) {
        memcpy(host, text + bracketed, n - 2 * (size_t)bracketed);
        host[n - 2 * (size_t)bracketed] = '\0';
        if (bracketed == (strchr(host, ':') != NULL) &&
            strspn(colon + 1, "0123456789") == strlen(colon + 1) &&
            strtoul(colon + 1, NULL, 10) <= 65535 &&
            !getaddrinfo(host, colon + 1, &hints, &address))
            return address;
    }
    (void)osm_fail(err, OSM_EINVAL,
                   "%s %s: expected ADDRESS:PORT, such as 127.0.0.1:9091 or [::]:9091", flag, text);
    return NULL;
}

static int bind_socket(int fd, const struct addrinfo *address)
{
    int yes = 1, no = 0;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (address->ai_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
    return bind(fd, address->ai_addr, address->ai_addrlen) || listen(fd, SOMAXCONN);
}

static void name_socket(int fd, char name[OSM__HTTP_ADDRESS_SIZE])
{
    struct sockaddr_storage bound;
    socklen_t len = sizeof bound;
    char host[INET6_ADDRSTRLEN], port[8];
    if (getsockname(fd, (struct sockaddr *)&bound, &len) ||
        getnameinfo((struct sockaddr *)&bound, len, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV))
        return; /* as it was asked for */
    (void)snprintf(name, OSM__HTTP_ADDRESS_SIZE, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host,
                   port);
}

int osm__http_socket_open(int *out, char name[OSM__HTTP_ADDRESS_SIZE],
                          const struct osm_http_listen *config, struct osm_err *err)
{
    struct addrinfo *address = parse_address(config->address, config->flag, err);
    int rc = 0;
    if (!address)
        return OSM_EINVAL;
    if (config->loopback_only && !is_loopback(address->ai_addr)) {
        freeaddrinfo(address);
        return osm_fail(err, OSM_EACCES,
                        "%s %s: only an address of the loopback is allowed, such as "
                        "127.0.0.1:9092; reach it by kubectl port-forward or ssh -L",
                        config->flag, config->address);
    }
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind_socket(fd, address)) {
        rc = osm_fail(err, OSM_EIO, "cannot listen on %s: %s; choose another with %s",
                      config->address, strerror(errno), config->flag);
        if (fd >= 0)
            (void)close(fd);
    } else {
        (void)snprintf(name, OSM__HTTP_ADDRESS_SIZE, "%s", config->address);
        name_socket(fd, name);
        *out = fd;
    }
    freeaddrinfo(address);
    return rc;
}
