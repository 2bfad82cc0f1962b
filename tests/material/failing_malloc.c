/* malloc and its kin, of which one call fails, if watched code makes it, or what that calls, but for code of Python that
   it calls. Preloaded by failing_allocations.py, it stands before the functions of the C library, glibc. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <link.h>
#include <stdatomic.h>
#include <stddef.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static struct { const char *start, *stop; } watched[16], interpreter;
static int n_watched;
static atomic_long count, first, failed;
static atomic_int armed;

/* Watch the code in these addresses; 0 if there is no room to note them. */
int watch(const char *start, const char *stop)
{
    void *frame;
    backtrace(&frame, 1); /* allocates when it is called first */
    if (n_watched == sizeof watched / sizeof *watched)
        return 0;
    watched[n_watched].start = start, watched[n_watched].stop = stop;
    n_watched++;
    return 1;
}

/* The function that runs code of Python; 0 if its size is not known. */
int interpreter_is(const char *function)
{
    Dl_info info;
    const ElfW(Sym) *symbol = NULL;
    if (dladdr1(function, &info, (void **)&symbol, RTLD_DL_SYMENT) == 0 || symbol == NULL)
        return 0;
    interpreter.start = function, interpreter.stop = function + symbol->st_size;
    return symbol->st_size > 0;
}

/* From now on, in whatever thread: let n calls pass, and fail the next one that is below watched code. */
void fail_at(long n)
{
    atomic_store(&count, 0), atomic_store(&first, n), atomic_store(&failed, -1);
    atomic_store(&armed, 1);
}

/* The number of the call that failed, -1 if none did; no other will. */
long end_of_failing(void)
{
    atomic_store(&armed, 0);
    return atomic_load(&failed);
}

static int below_watched_code(void)
{
    void *frames[100];
    const int depth = backtrace(frames, 100);
    for (int k = 0; k < depth; k++) {
        const char *frame = frames[k];
        if (frame >= interpreter.start && frame < interpreter.stop)
            return 0;
        for (int w = 0; w < n_watched; w++)
            if (frame >= watched[w].start && frame < watched[w].stop)
                return 1;
    }
    return 0;
}

static int fails(void)
{
    if (!atomic_load(&armed))
        return 0;
    const long number = atomic_fetch_add(&count, 1);
    if (number < atomic_load(&first) || !below_watched_code() || !atomic_exchange(&armed, 0))
        return 0;
    atomic_store(&failed, number);
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t size) { return fails() ? NULL : __libc_malloc(size); }

void *calloc(size_t n, size_t size) { return fails() ? NULL : __libc_calloc(n, size); }

void *realloc(void *p, size_t size) { return fails() ? NULL : __libc_realloc(p, size); }

void *aligned_alloc(size_t alignment, size_t size) { return fails() ? NULL : __libc_memalign(alignment, size); }

int posix_memalign(void **p, size_t alignment, size_t size)
{
    if (fails())
        return ENOMEM;
    *p = __libc_memalign(alignment, size);
    return *p == NULL ? ENOMEM : 0;
}
