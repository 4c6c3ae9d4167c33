/* A disk that takes its time: delays fdatasync and, once it is done, notes the size of the file. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int fdatasync(int fd) {
    int (*real)(int) = dlsym(RTLD_NEXT, "fdatasync");
    struct stat file;
    char size[32];
    int note;
    fstat(fd, &file); /* what is written from here on may not be on the disk afterwards */
    usleep(atoi(getenv("SLOW_DISK_US")));
    int failed = real(fd);
    if (!failed && (note = open(getenv("SLOW_DISK_NOTE"), O_WRONLY | O_CREAT, 0600)) >= 0) {
        pwrite(note, size, snprintf(size, sizeof size, "%020lld", (long long) file.st_size), 0);
        close(note);
    }
    return failed;
}
