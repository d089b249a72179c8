#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static int write_all(int fd, const char *text, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = write(fd, text + done, len - done);
        if (n > 0)
            done += (size_t)n;
        else if (n == 0 || errno != EINTR)
            return n ? errno : EIO;
    }
    return 0;
}

int osm_file_write(int dir, const char *name, const char *text, size_t len, mode_t mode)
{
    (void)unlinkat(dir, name, 0);
    int fd =
        openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (fd < 0)
        return errno;
    int error = write_all(fd, text, len);
    if (!error && (fchmod(fd, mode) || fsync(fd)))
        error = errno;
    if (close(fd) && !error)
        error = errno;
    if (error)
        (void)unlinkat(dir, name, 0);
    return error;
}

void osm_files_allow(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files))
        return;
    files.rlim_cur = files.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &files);
}
