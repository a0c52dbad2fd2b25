/* For test_v4l2.py. A V4L2 camera for one process, loaded with LD_PRELOAD: opens of $FAKE_V4L2_DEVICE give a camera that sends
 * the JPEG in $FAKE_V4L2_JPEG, 1280 x 720, at 30 pictures/s, or YUYV of any size if that is asked for instead.
 * While $FAKE_V4L2_DEVICE.unplugged exists, everything fails with ENODEV; while .stalled exists, no picture comes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER_BYTES = 2 << 20, BUFFERS = 4 };

static int camera = -1, memory = -1;
static struct v4l2_pix_format pixels = {.width = 640, .height = 480, .pixelformat = V4L2_PIX_FMT_YUYV};
static int queued[BUFFERS], sequence;
static unsigned char *shared;

static int flag(const char *suffix) {
    char path[512];
    snprintf(path, sizeof path, "%s%s", getenv("FAKE_V4L2_DEVICE"), suffix);
    return access(path, F_OK) == 0;
}

static int fail(int error) {
    errno = error;
    return -1;
}

static int open_camera(void) {
    if (flag(".unplugged")) return fail(ENODEV);
    camera = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct itimerspec every = {{0, 33333333}, {0, 33333333}};
    timerfd_settime(camera, 0, &every, NULL);
    memory = memfd_create("camera", 0);
    if (ftruncate(memory, BUFFERS * BUFFER_BYTES)) return -1;
    void *(*real)(void *, size_t, int, int, int, off_t) = dlsym(RTLD_NEXT, "mmap");
    shared = real(NULL, BUFFERS * BUFFER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    memset(queued, 0, sizeof queued);
    return camera;
}

#define OPEN(name)                                                                   \
    int name(const char *path, int flags, ...) {                                     \
        const char *device = getenv("FAKE_V4L2_DEVICE");                             \
        if (device && strcmp(path, device) == 0 && (flags & O_RDWR)) return open_camera(); \
        va_list more;                                                                \
        va_start(more, flags);                                                       \
        int mode = va_arg(more, int);                                                \
        va_end(more);                                                                \
        int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, #name);               \
        return real(path, flags, mode);                                              \
    }
OPEN(open)
OPEN(open64)

#define MMAP(name, offset_type)                                                                   \
    void *name(void *at, size_t length, int protection, int flags, int fd, offset_type offset) {  \
        void *(*real)(void *, size_t, int, int, int, offset_type) = dlsym(RTLD_NEXT, #name);      \
        return real(at, length, protection, flags, fd >= 0 && fd == camera ? memory : fd, offset); \
    }
MMAP(mmap, off_t)
MMAP(mmap64, off64_t)

int close(int fd) {
    int (*real)(int) = dlsym(RTLD_NEXT, "close");
    if (fd >= 0 && fd == camera) camera = -1, real(memory);
    return real(fd);
}

static int dequeue(struct v4l2_buffer *buffer) {
    uint64_t ticks;
    if (flag(".stalled")) {
        struct itimerspec never = {{0, 0}, {0, 0}};
        timerfd_settime(camera, 0, &never, NULL);
    }
    if (read(camera, &ticks, sizeof ticks) < 0) return fail(EAGAIN);
    int index = 0;
    while (index < BUFFERS && !queued[index]) index++;
    if (index == BUFFERS) return fail(EAGAIN);
    queued[index] = 0;
    unsigned char *to = shared + index * BUFFER_BYTES;
    if (pixels.pixelformat == V4L2_PIX_FMT_MJPEG) {
        FILE *file = fopen(getenv("FAKE_V4L2_JPEG"), "rb");
        buffer->bytesused = fread(to, 1, BUFFER_BYTES, file);
        fclose(file);
    } else {
        buffer->bytesused = pixels.width * pixels.height * 2;
        memset(to, 128, buffer->bytesused);
    }
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    buffer->timestamp.tv_sec = now.tv_sec;
    buffer->timestamp.tv_usec = now.tv_nsec / 1000;
    buffer->index = index;
    buffer->length = BUFFER_BYTES;
    buffer->sequence = sequence++;
    return 0;
}

int ioctl(int fd, unsigned long request, ...) {
    va_list more;
    va_start(more, request);
    void *argument = va_arg(more, void *);
    va_end(more);
    if (fd < 0 || fd != camera) {
        int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
        return real(fd, request, argument);
    }
    if (flag(".unplugged")) return fail(ENODEV);
    struct v4l2_buffer *buffer = argument;
    struct v4l2_format *format = argument;
    switch ((unsigned int)request) {
    case VIDIOC_QUERYCAP:
        ((struct v4l2_capability *)argument)->capabilities = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        ((struct v4l2_capability *)argument)->device_caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        return 0;
    case VIDIOC_S_FMT:
        pixels.width = format->fmt.pix.width, pixels.height = format->fmt.pix.height;
        pixels.pixelformat = V4L2_PIX_FMT_YUYV;
        if (format->fmt.pix.pixelformat == V4L2_PIX_FMT_MJPEG) {
            pixels.pixelformat = V4L2_PIX_FMT_MJPEG;
            pixels.width = 1280, pixels.height = 720;
        } /* fall through */
    case VIDIOC_G_FMT:
        pixels.bytesperline = pixels.width * 2;
        pixels.sizeimage = BUFFER_BYTES;
        format->fmt.pix = pixels;
        return 0;
    case VIDIOC_S_PARM:
    case VIDIOC_G_PARM:
    case VIDIOC_STREAMON:
    case VIDIOC_STREAMOFF:
        return 0;
    case VIDIOC_REQBUFS:
        if (((struct v4l2_requestbuffers *)argument)->count > BUFFERS) return fail(EINVAL);
        return 0;
    case VIDIOC_QUERYBUF:
        buffer->length = BUFFER_BYTES;
        buffer->m.offset = buffer->index * BUFFER_BYTES;
        return 0;
    case VIDIOC_QBUF:
        queued[buffer->index] = 1;
        return 0;
    case VIDIOC_DQBUF:
        return dequeue(buffer);
    default:
        return fail(EINVAL);
    }
}
