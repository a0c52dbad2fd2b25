/* Lets libcamera's virtual camera work where the kernel has no /dev/udmabuf and no /dev/dma_heap: memfds stand for
 * both, and what is asked of them as DMA buffers is granted.
 *   gcc -shared -fPIC -o shim.so libcamera_shim.c        LD_PRELOAD=./shim.so python3 ... */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* From <linux/udmabuf.h> and <linux/dma-heap.h>. */
struct udmabuf_create { uint32_t memfd, flags; uint64_t offset, size; };
struct dma_heap_allocation { uint64_t length; uint32_t fd, fd_flags; uint64_t heap_flags; };
#define UDMABUF_CREATE _IOW('u', 0x42, struct udmabuf_create)
#define DMA_HEAP_ALLOC _IOWR('H', 0, struct dma_heap_allocation)
#define DMA_BUF_BASE 'b'

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int stands_for(const char *path)
{
	return !strcmp(path, "/dev/udmabuf") || !strncmp(path, "/dev/dma_heap/", 14);
}

#define OPEN(name) \
int name(const char *path, int flags, ...) \
{ \
	va_list arguments; \
	va_start(arguments, flags); \
	mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(arguments, mode_t) : 0; \
	va_end(arguments); \
	return stands_for(path) ? memfd_create("device", MFD_CLOEXEC) : REAL(name)(path, flags, mode); \
}
OPEN(open)
OPEN(open64)
int __open_2(const char *path, int flags) { return open(path, flags); }
int __open64_2(const char *path, int flags) { return open(path, flags); }

int ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;
	va_start(arguments, request);
	void *argument = va_arg(arguments, void *);
	va_end(arguments);
	if (request == UDMABUF_CREATE)
		return dup(((struct udmabuf_create *)argument)->memfd);
	if (request == DMA_HEAP_ALLOC) {
		struct dma_heap_allocation *allocation = argument;
		allocation->fd = memfd_create("heap", MFD_CLOEXEC);
		return ftruncate(allocation->fd, allocation->length);
	}
	int result = REAL(ioctl)(fd, request, argument);
	if (result < 0 && _IOC_TYPE(request) == DMA_BUF_BASE && (errno == ENOTTY || errno == EINVAL))
		return 0;
	return result;
}
