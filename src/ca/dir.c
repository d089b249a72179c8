/* The CA's files. Everything happens under a lock on the directory, so that of two processes that
 * start at once one makes the root and the other finds it. A file gets its name only when it is
 * whole and on disk; the certificate is the last to get one, so a crash leaves either nothing, or a
 * key with its certificate waiting aside. */
#include "ca/ca_priv.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { LOCK_WAIT_MS = 10000, LOCK_STEP_MS = 20 };

const char osm__ca_cert_aside[] = "." OSM_CA_CERT_FILE ".new";
static const char key_aside[] = "." OSM_CA_KEY_FILE ".new";

static int lock(const struct osm_ca_dir *dir, struct osm_err *err)
{
    const struct timespec step = {0, LOCK_STEP_MS * 1000000L};
    for (int waited_ms = 0;; waited_ms += LOCK_STEP_MS) {
        if (!flock(dir->fd, LOCK_EX | LOCK_NB))
            return 0;
        if (errno != EWOULDBLOCK && errno != EINTR)
            return osm_fail(err, OSM_EIO, "state directory %s: cannot be locked: %s", dir->path,
                            strerror(errno));
        if (waited_ms >= LOCK_WAIT_MS)
            return osm_fail(
                err, OSM_EBUSY,
                "state directory %s: locked by another process for %d s; end that process",
                dir->path, LOCK_WAIT_MS / 1000);
        (void)nanosleep(&step, NULL);
    }
}

static bool foreign(uid_t owner)
{
    return owner != geteuid() && owner != 0;
}

static int check_dir(const struct osm_ca_dir *dir, struct osm_err *err)
{
    struct stat st;
    if (fstat(dir->fd, &st))
        return osm_fail(err, OSM_EIO, "state directory %s: %s", dir->path, strerror(errno));
    if (foreign(st.st_uid))
        return osm_fail(
            err, OSM_EACCES,
            "state directory %s: belongs to uid %u, who could replace the keys; chown it",
            dir->path, (unsigned)st.st_uid);
    if (st.st_mode & (S_IWGRP | S_IWOTH))
        return osm_fail(err, OSM_EACCES,
                        "state directory %s: others may write to it (mode %04o), and so replace "
                        "the keys; chmod it 0700",
                        dir->path, (unsigned)st.st_mode & 07777U);
    if (faccessat(dir->fd, ".", W_OK | X_OK, AT_EACCESS))
        return osm_fail(
            err, OSM_EACCES,
            "state directory %s: cannot be written: %s; make it writable or choose another",
            dir->path, strerror(errno));
    return 0;
}

int osm__ca_dir_open(struct osm_ca_dir *dir, const char *path, struct osm_err *err)
{
    dir->path = path;
    dir->fd = -1;
    if (mkdir(path, S_IRWXU) && errno != EEXIST)
        return osm_fail(err,
                        errno == EACCES || errno == EPERM || errno == EROFS ? OSM_EACCES : OSM_EIO,
                        "state directory %s: cannot be created: %s", path, strerror(errno));
    dir->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir->fd < 0)
        return osm_fail(err, errno == EACCES ? OSM_EACCES : OSM_EIO,
                        "state directory %s: cannot be opened: %s", path, strerror(errno));
    int rc = check_dir(dir, err);
    if (!rc)
        rc = lock(dir, err);
    if (rc)
        osm__ca_dir_close(dir);
    return rc;
}

void osm__ca_dir_close(struct osm_ca_dir *dir)
{
    if (dir->fd >= 0)
        (void)close(dir->fd); /* and unlocks */
    dir->fd = -1;
}

static int check_file(const struct osm_ca_dir *dir, const char *name, bool private_file, int fd,
                      struct osm_err *err)
{
    struct stat st;
    if (fstat(fd, &st))
        return osm_fail(err, OSM_EIO, "%s/%s: %s", dir->path, name, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return osm_fail(err, OSM_EIO, "%s/%s: is not a regular file", dir->path, name);
    if (foreign(st.st_uid))
        return osm_fail(err, OSM_EACCES,
                        "%s/%s: belongs to uid %u; chown it to the user of this process", dir->path,
                        name, (unsigned)st.st_uid);
    unsigned refused = private_file ? S_IRWXG | S_IRWXO : S_IWGRP | S_IWOTH;
    if (st.st_mode & refused)
        return osm_fail(err, OSM_EACCES,
                        "%s/%s: others may %s it (mode %04o); check who did, then chmod it %s",
                        dir->path, name, private_file ? "use" : "change",
                        (unsigned)st.st_mode & 07777U, private_file ? "0600" : "0644");
    return 0;
}

int osm__ca_dir_read(const struct osm_ca_dir *dir, const char *name, bool private_file,
                     struct osm_buf *out, struct osm_err *err)
{
    /* O_NONBLOCK: a FIFO of that name must not hang the start. */
    int fd = openat(dir->fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return osm_fail(err,
                        errno == ENOENT   ? OSM_ENOENT
                        : errno == EACCES ? OSM_EACCES
                                          : OSM_EIO,
                        "%s/%s: cannot be opened: %s", dir->path, name, strerror(errno));
    int rc = check_file(dir, name, private_file, fd, err);
    while (!rc) {
        char *at = osm_buf_reserve(out, 4096);
        if (!at) {
            rc = osm_fail(err, out->failed, "%s/%s: larger than %d bytes, or out of memory",
                          dir->path, name, OSM_CA_FILE_MAX_BYTES);
            break;
        }
        ssize_t n = read(fd, at, 4096);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            rc = osm_fail(err, OSM_EIO, "%s/%s: cannot be read: %s", dir->path, name,
                          strerror(errno));
        if (n <= 0)
            break;
        out->len += (size_t)n;
    }
    if (!rc && out->data)
        out->data[out->len] = '\0';
    (void)close(fd);
    return rc;
}

static int write_aside(const struct osm_ca_dir *dir, const char *name, mode_t mode,
                       const char *text, struct osm_err *err)
{
    /* A rest of an earlier crash goes; under the lock it is nobody's. */
    int error = osm_file_write(dir->fd, name, text, strlen(text), mode);
    return error ? osm_fail(err, error == EACCES || error == EROFS ? OSM_EACCES : OSM_EIO,
                            "%s/%s: cannot be written: %s", dir->path, name, strerror(error))
                 : 0;
}

static int give_name(const struct osm_ca_dir *dir, const char *aside, const char *name,
                     struct osm_err *err)
{
    if (renameat(dir->fd, aside, dir->fd, name))
        return osm_fail(err, OSM_EIO, "%s/%s: cannot be renamed to %s: %s", dir->path, aside, name,
                        strerror(errno));
    return 0;
}

static int sync_dir(const struct osm_ca_dir *dir, struct osm_err *err)
{
    if (fsync(dir->fd))
        return osm_fail(err, OSM_EIO, "state directory %s: cannot be synchronised: %s", dir->path,
                        strerror(errno));
    return 0;
}

int osm__ca_dir_finish(const struct osm_ca_dir *dir, struct osm_err *err)
{
    int rc = give_name(dir, osm__ca_cert_aside, OSM_CA_CERT_FILE, err);
    return rc ? rc : sync_dir(dir, err);
}

int osm__ca_dir_publish(const struct osm_ca_dir *dir, const char *key_pem, const char *cert_pem,
                        struct osm_err *err)
{
    int rc = write_aside(dir, key_aside, S_IRUSR | S_IWUSR, key_pem, err);
    if (!rc)
        rc = write_aside(dir, osm__ca_cert_aside, S_IRUSR | S_IWUSR | S_IRGRP | S_IROTH, cert_pem,
                         err);
    if (!rc)
        rc = sync_dir(dir, err);
    if (!rc)
        rc = give_name(dir, key_aside, OSM_CA_KEY_FILE, err);
    if (rc) {
        (void)unlinkat(dir->fd, key_aside, 0);
        (void)unlinkat(dir->fd, osm__ca_cert_aside, 0);
        return rc;
    }
    return osm__ca_dir_finish(dir, err);
}
