/*
 * What jemalloc is told before main: to ask the kernel for huge pages.
 *
 * The engine reads its log at the start through a fresh buffer of 8 MiB for each segment, and with small pages most of that
 * time goes into page faults. It is a constant that jemalloc looks for by this name; nothing here runs.
 */
extern const char *_rjem_malloc_conf;
const char *_rjem_malloc_conf = "thp:always";
