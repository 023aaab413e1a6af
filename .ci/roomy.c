/* malloc with spare room after every block, to preload where AVX2 is emulated: qemu also reads the lanes that a masked
 * load leaves out, up to a block of four vectors beyond a row, which may be beyond the end of the heap. */
#include <errno.h>
#include <stdlib.h>

enum { ROOM = 256 };

void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* block, size_t size);
void* __libc_memalign(size_t alignment, size_t size);

static size_t roomy(size_t size) { return size + ROOM < size ? size : size + ROOM; }

void* malloc(size_t size) { return __libc_malloc(roomy(size)); }

void* calloc(size_t count, size_t size) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) {
    errno = ENOMEM;
    return NULL;
  }
  return __libc_calloc(1, roomy(bytes));
}

void* realloc(void* block, size_t size) {
  if (block != NULL && size == 0) return __libc_realloc(block, 0);
  return __libc_realloc(block, roomy(size));
}

void* memalign(size_t alignment, size_t size) { return __libc_memalign(alignment, roomy(size)); }

void* aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void** block, size_t alignment, size_t size) {
  if (alignment < sizeof(void*) || (alignment & (alignment - 1)) != 0) return EINVAL;
  void* const found = memalign(alignment, size);
  if (found == NULL) return ENOMEM;
  *block = found;
  return 0;
}
