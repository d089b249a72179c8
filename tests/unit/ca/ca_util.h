/* What the tests of the CA share: a directory of their own, PEM to X509 and back, roots that the
 * product would not make. */
#pragma once

#include "base/buf.h"
#include "base/log.h"
#include "ca/ca_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TD   "cluster.local"
#define UUID "1f3b0b5e-7d0c-4c55-9a5e-0d9b8a7c6f01"

struct tmp {
    char root[64];
    char state[80]; /* not there yet */
};

static inline int tmp_setup(void **state)
{
    struct tmp *t = osm_alloc(sizeof *t);
    assert_non_null(t);
    (void)snprintf(t->root, sizeof t->root, "/tmp/osm-ca-test-XXXXXX");
    assert_non_null(mkdtemp(t->root));
    (void)snprintf(t->state, sizeof t->state, "%s/state", t->root);
    *state = t;
    return 0;
}

static inline void remove_tree(const char *path)
{
    DIR *d = opendir(path);
    if (d) {
        for (struct dirent *e = readdir(d); e; e = readdir(d)) {
            char sub[512];
            if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
                continue;
            (void)snprintf(sub, sizeof sub, "%s/%s", path, e->d_name);
            remove_tree(sub);
        }
        (void)closedir(d);
        (void)rmdir(path);
    } else {
        (void)unlink(path);
    }
}

static inline int tmp_teardown(void **state)
{
    struct tmp *t = *state;
    remove_tree(t->root);
    osm_free(t);
    return 0;
}

static inline int quiet(void **state)
{
    (void)state;
    osm_log_set_level(OSM_LOG_TOPIC_COUNT, OSM_LOG_OFF);
    return 0;
}

static inline int no_leak(void **state)
{
    (void)state;
    assert_int_equal(osm_mem_live(), 0);
    return 0;
}

static inline int open_ca(struct osm_ca **out, const char *dir, struct osm_err *err)
{
    return osm_ca_open(out, &(struct osm_ca_config){.state_dir = dir, .trust_domain = TD}, err);
}

static inline struct osm_ca *must_open(const char *dir)
{
    struct osm_ca *ca = NULL;
    struct osm_err err = {0};
    if (open_ca(&ca, dir, &err))
        fail_msg("osm_ca_open: %s", err.msg);
    return ca;
}

/* Expects the open to fail with @p code and a text that holds @p part. */
static inline void expect_refused(const char *dir, int code, const char *part)
{
    struct osm_ca *ca = NULL;
    struct osm_err err = {0};
    int rc = open_ca(&ca, dir, &err);
    if (rc != code || !strstr(err.msg, part))
        fail_msg("expected %s with \"%s\", got %s: %s", osm_code_name(code), part,
                 rc ? osm_code_name(rc) : "success", err.msg);
    assert_null(ca);
    assert_int_equal(err.code, code);
}

static inline const char *in(const char *dir, const char *name)
{
    static char path[4][512];
    static int turn;
    char made[sizeof path[0]]; /* dir may be one of those before */
    turn = (turn + 1) % 4;
    (void)snprintf(made, sizeof made, "%s/%s", dir, name);
    return memcpy(path[turn], made, sizeof made);
}

static inline char *slurp(const char *path)
{
    struct osm_buf b = OSM_BUF_INIT(1 << 20);
    struct osm_err err = {0};
    if (osm_buf_read_file(&b, path, &err))
        fail_msg("%s", err.msg);
    return osm_buf_take(&b);
}

static inline void spit(const char *path, const char *text, size_t len, mode_t mode)
{
    (void)unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, mode);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, len), (ssize_t)len);
    assert_int_equal(fchmod(fd, mode), 0);
    assert_int_equal(close(fd), 0);
}

static inline X509 *x509(const char *pem)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    BIO_free(bio);
    assert_non_null(cert);
    return cert;
}

static inline EVP_PKEY *pkey(const char *pem)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    BIO_free(bio);
    assert_non_null(key);
    return key;
}
