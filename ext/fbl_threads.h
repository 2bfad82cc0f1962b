/* What threads share: numbers that several of them change, flags, a clock, and what the current thread works on.

   Numbers are changed in one order that all threads see, so who has seen a change sees what was written before it. Flags
   are relaxed: nothing else is published by them. MSVC lacks GCC's builtins, and reads and writes an aligned byte as one. */
#ifndef FBL_THREADS_H
#define FBL_THREADS_H

#include <stdint.h>

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#else
#include <sched.h>
#include <time.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#if defined(__linux__) && defined(__GLIBC__)
/* With the thread from its start: else glibc allocates it at first use, and ends the process if there is no memory. */
#define FBL_THREAD_LOCAL __thread __attribute__((tls_model("initial-exec")))
#elif defined(__GNUC__) || defined(__clang__)
#define FBL_THREAD_LOCAL __thread
#else
#include <intrin.h>
#define FBL_THREAD_LOCAL __declspec(thread)
#ifdef _WIN64
#define FBL_INTERLOCKED(name) name##64
typedef __int64 fbl_interlocked;
#else
#define FBL_INTERLOCKED(name) name
typedef long fbl_interlocked;
#endif
#endif

/* The innermost fbl_parts that the current thread works on; NULL if none. */
static FBL_THREAD_LOCAL void* fbl_working_on;

/* The tape that records what the current thread calls, which it owns meanwhile; NULL if none. */
static FBL_THREAD_LOCAL void* fbl_recording;

/* How many threads the current one may use; 0: as many as it asks for. */
static FBL_THREAD_LOCAL intptr_t fbl_most_threads;

/* Whether the current one wakes no thread that sleeps: what it computes is too short for that. */
static FBL_THREAD_LOCAL int fbl_lets_sleep;

static inline uint8_t fbl_get_flag(const uint8_t* flag) {
#if defined(__GNUC__) || defined(__clang__)
    return __atomic_load_n(flag, __ATOMIC_RELAXED);
#else
    return *(const volatile uint8_t*) flag;
#endif
}

static inline void fbl_set_flag(uint8_t* flag, uint8_t value) {
#if defined(__GNUC__) || defined(__clang__)
    __atomic_store_n(flag, value, __ATOMIC_RELAXED);
#else
    *(volatile uint8_t*) flag = value;
#endif
}

/* *number += by; returns what it was. */
static inline intptr_t fbl_add(intptr_t* number, intptr_t by) {
#if defined(__GNUC__) || defined(__clang__)
    return __atomic_fetch_add(number, by, __ATOMIC_SEQ_CST);
#else
    return FBL_INTERLOCKED(_InterlockedExchangeAdd)((volatile fbl_interlocked*) number, by);
#endif
}

static inline intptr_t fbl_load(const intptr_t* number) {
#if defined(__GNUC__) || defined(__clang__)
    return __atomic_load_n(number, __ATOMIC_SEQ_CST);
#else
    return fbl_add((intptr_t*) number, 0);
#endif
}

/* *number = value; returns what it was. */
static inline intptr_t fbl_swap(intptr_t* number, intptr_t value) {
#if defined(__GNUC__) || defined(__clang__)
    return __atomic_exchange_n(number, value, __ATOMIC_SEQ_CST);
#else
    return FBL_INTERLOCKED(_InterlockedExchange)((volatile fbl_interlocked*) number, value);
#endif
}

/* *number = value if it is `expected`; whether it was. */
static inline int fbl_replace(intptr_t* number, intptr_t expected, intptr_t value) {
#if defined(__GNUC__) || defined(__clang__)
    return __atomic_compare_exchange_n(number, &expected, value, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
#else
    return FBL_INTERLOCKED(_InterlockedCompareExchange)((volatile fbl_interlocked*) number, value, expected) == expected;
#endif
}

/* Nanoseconds of a clock that never goes back. */
static inline int64_t fbl_now(void) {
#if defined(_WIN32)
    LARGE_INTEGER ticks, frequency;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&frequency);
    return (int64_t) ((double) ticks.QuadPart * (1e9 / (double) frequency.QuadPart));
#else
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t) now.tv_sec * 1000000000 + now.tv_nsec;
#endif
}

/* Lets another thread have this core, if one waits for it. */
static inline void fbl_yield(void) {
#if defined(_WIN32)
    (void) SwitchToThread();
#else
    (void) sched_yield();
#endif
}

/* Linux wakes a thread on the core of the one that wakes it, and may leave both there for 20 ms while another core is idle.
   So who wakes a thread keeps it off his core, and the thread frees itself when it has nothing more to do: a lock of
   Python's that it waits for meanwhile would bring it back to that core. */
#if defined(__linux__)
static inline int fbl_thread_id(void) { return (int) syscall(SYS_gettid); }

static inline void fbl_keep_off_this_core(int thread) {
    cpu_set_t cores;
    const int core = sched_getcpu();
    if (core < 0 || core >= CPU_SETSIZE || sched_getaffinity(0, sizeof cores, &cores) != 0)
        return;
    CPU_CLR(core, &cores);
    if (CPU_COUNT(&cores) > 0)
        (void) !sched_setaffinity(thread, sizeof cores, &cores);
}

/* The current thread may run wherever the process may. */
static inline void fbl_run_anywhere(void) {
    cpu_set_t cores;
    if (sched_getaffinity(getpid(), sizeof cores, &cores) == 0)
        (void) !sched_setaffinity(0, sizeof cores, &cores);
}
#else
static inline int fbl_thread_id(void) { return 0; }
static inline void fbl_keep_off_this_core(int thread) { (void) thread; }
static inline void fbl_run_anywhere(void) {}
#endif

/* Brings a cache line here that this thread will write into. */
static inline void fbl_prefetch_to_write(const void* at) {
#if defined(__GNUC__) || defined(__clang__)
    __builtin_prefetch(at, 1);
#else
    (void) at;
#endif
}

/* Tells the CPU that this is a loop that waits. */
static inline void fbl_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

#endif
