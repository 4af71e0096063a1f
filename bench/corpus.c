/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Make a corpus: a file of real 4 KiB pages to measure with.
 *
 *   corpus -o FILE -s MIB [--seed N]
 *
 * A compressed RAM disk is worth what it makes of the pages that people
 * really swap, so the corpus is taken from the machine that it is made on:
 *
 *   stratum       share  from
 *   cc1, python,         anonymous writable memory that programs started
 *   node            62%  here have built up (/proc/PID/mem of children)
 *   include          8%  whole pages of /usr/include
 *   libs            13%  pages of /usr/lib shared objects
 *   duplicate        2%  copies of pages above
 *   random           8%  a generator's output: encrypted or packed data
 *   same             7%  one 64-bit period; most of them zeros
 *
 * A program that is not installed, or too small, leaves what it lacks to the
 * next stratum; libs is last.  Strata of real pages keep no same-filled page
 * and no second copy, so that those shares are what they say.
 *
 * Neighbours compress and die alike, so real pages stay together in runs of
 * RUN_PAGES; the runs are shuffled.  With one seed, file strata come out the
 * same on one machine; anonymous memory does not (addresses, timing).
 *
 * A manifest goes to stdout: a line a stratum, with what lz4 and zstd:1 make
 * of its pages one by one.  Link with -llz4 -lzstd.
 */

#define _GNU_SOURCE

#include <err.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <lz4.h>
#include <zstd.h>

#define PAGE_BYTES    4096
#define RUN_PAGES     8
#define PAGES_PER_MIB 256

/* A run of pages that could be taken: of a file, or of /proc/PID/mem. */
struct run {
  const char *path; /* borrowed */
  off_t offset;
};

struct runs {
  struct run *items;
  size_t nr, room;
};

struct stratum {
  const char *name;
  void (*take) (size_t wanted); /* as many pages, or what there is */
  unsigned share_percent;
  unsigned run_pages;          /* how many pages stay together */
  size_t first_page, nr_pages; /* where it lies in the unshuffled corpus */
};

static uint8_t *corpus;
static size_t nr_corpus_pages, nr_taken;
static uint64_t *seen_hashes; /* open addressing; 0 is empty */
static size_t nr_seen_slots;
static uint64_t rng_state = 1;

static uint64_t
rng (void)
{
  uint64_t z = (rng_state += 0x9e3779b97f4a7c15);

  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

static void *
allocate (size_t nr, size_t bytes)
{
  void *p = calloc (nr, bytes);

  if (p == NULL)
    err (EXIT_FAILURE, "calloc");
  return p;
}

static bool
is_same_filled (const uint8_t *page)
{
  return memcmp (page, page + 8, PAGE_BYTES - 8) == 0;
}

static uint64_t
hash_page (const uint8_t *page)
{
  uint64_t hash = 1, word;

  for (size_t i = 0; i < PAGE_BYTES; i += sizeof word) {
    memcpy (&word, page + i, sizeof word);
    hash = (hash ^ word) * 0x9e3779b97f4a7c15;
    hash ^= hash >> 29;
  }
  return hash ? hash : 1;
}

/* Remember a page; true if it was there before. */
static bool
is_seen_before (const uint8_t *page)
{
  uint64_t hash = hash_page (page);
  size_t i;

  for (i = hash % nr_seen_slots; seen_hashes[i]; i = (i + 1) % nr_seen_slots)
    if (seen_hashes[i] == hash)
      return true;
  seen_hashes[i] = hash;
  return false;
}

static void
add_page (const uint8_t *page)
{
  memcpy (corpus + nr_taken++ * PAGE_BYTES, page, PAGE_BYTES);
}

/*--- Runs of pages that could be taken. ---*/

static void
add_run (struct runs *runs, const char *path, off_t offset)
{
  if (runs->nr == runs->room) {
    runs->room = runs->room ? 2 * runs->room : 1024;
    runs->items = realloc (runs->items, runs->room * sizeof *runs->items);
    if (runs->items == NULL)
      err (EXIT_FAILURE, "realloc");
  }
  runs->items[runs->nr++] = (struct run){ path, offset };
}

/* Take runs in a random order until they gave `wanted` pages.  What
 * cannot be read (a guard page, a file that went away) is passed over.
 */
static void
take_runs (struct runs *runs, size_t wanted)
{
  static uint8_t buf[RUN_PAGES * PAGE_BYTES];
  const size_t end = nr_taken + wanted;

  while (runs->nr > 0 && nr_taken < end) {
    struct run *pick = &runs->items[rng () % runs->nr];
    struct run run = *pick;
    int fd = open (run.path, O_RDONLY | O_CLOEXEC);
    ssize_t bytes;

    *pick = runs->items[--runs->nr];
    if (fd == -1)
      continue;
    bytes = pread (fd, buf, sizeof buf, run.offset);
    close (fd);
    for (ssize_t i = 0; i + PAGE_BYTES <= bytes && nr_taken < end;
         i += PAGE_BYTES)
      if (!is_same_filled (buf + i) && !is_seen_before (buf + i))
        add_page (buf + i);
  }
  free (runs->items);
  *runs = (struct runs){ 0 };
}

/*--- Strata of files. ---*/

static struct runs walk_runs; /* nftw passes no argument on */
static const char *walk_pattern;

static int
compare_runs (const void *a, const void *b)
{
  const struct run *x = a, *y = b;
  int r = strcmp (x->path, y->path);

  return r ? r : (x->offset > y->offset) - (x->offset < y->offset);
}

static int
visit_file (const char *path, const struct stat *st, int type, struct FTW *ftw)
{
  const char *name = path + ftw->base;
  char *copy;

  if (type != FTW_F || !S_ISREG (st->st_mode) || st->st_size < PAGE_BYTES ||
      (walk_pattern && strstr (name, walk_pattern) == NULL))
    return 0;
  if ((copy = strdup (path)) == NULL) /* lives as long as the program */
    err (EXIT_FAILURE, "strdup");
  for (off_t at = 0; at + PAGE_BYTES <= st->st_size;
       at += RUN_PAGES * PAGE_BYTES)
    add_run (&walk_runs, copy, at);
  return 0;
}

static void
take_files (size_t wanted, const char *folder, const char *pattern)
{
  walk_pattern = pattern;
  nftw (folder, visit_file, 32, FTW_PHYS);
  if (walk_runs.nr > 0) /* the order of a folder is nobody's promise */
    qsort (walk_runs.items, walk_runs.nr, sizeof *walk_runs.items,
           compare_runs);
  take_runs (&walk_runs, wanted);
}

static void
take_headers (size_t wanted)
{
  take_files (wanted, "/usr/include", NULL);
}

static void
take_libraries (size_t wanted)
{
  take_files (wanted, "/usr/lib", ".so");
}

/*--- Strata of anonymous memory. ---*/

/* The programs build data for as long as they are left to, and are stopped
 * when they hold enough of it.
 */
static const char python_program[] =
  "import ast,glob,json,os,random,re,time\n"
  "keep=[]\n"
  "for n in range(50):\n"
  "  for f in sorted(glob.glob(os.path.dirname(os.__file__)+'/*.py')):\n"
  "    try:\n"
  "      s=open(f).read()+'\\n#%d'%n; t=ast.parse(s)\n"
  "      w={}\n"
  "      for i,x in enumerate(re.findall(r'\\w+',s)):\n"
  "        w.setdefault(x,[]).append(i+n)\n"
  "      x=[round(random.gauss(n,9),6) for i in range(len(s)//6)]\n"
  "      keep.append((s,t,compile(t,f,'exec'),w,json.dumps(w),x,str(x)))\n"
  "    except (SyntaxError,ValueError,OSError): pass\n"
  "time.sleep(600)\n";

static const char node_program[] =
  "const fs=require('fs'),keep=[];\n"
  "const files=['sys','net','linux','asm-generic','c++/12']\n"
  "  .map(d=>'/usr/include/'+d).filter(d=>fs.existsSync(d))\n"
  "  .flatMap(d=>fs.readdirSync(d).map(f=>d+'/'+f))\n"
  "  .filter(f=>fs.statSync(f).isFile());\n"
  "for(let n=0;n<50;n++)for(const f of files){\n"
  "  const s=fs.readFileSync(f,'utf8'),m=new Map();\n"
  "  s.split(/\\W+/).forEach((w,i)=>{\n"
  "    let e=m.get(w);if(!e)m.set(w,e={word:w,at:[],id:n*1e6+i});\n"
  "    e.at.push(i);});\n"
  "  keep.push({file:f,n,lines:s.split('\\n').map((t,i)=>({i,t})),m,\n"
  "    json:JSON.stringify([...m.values()])});}\n"
  "setTimeout(()=>{},600000);\n";

/* A source large enough that compiling it takes some hundred MiB. */
static void
write_synthetic_source (const char *path)
{
  FILE *fp = fopen (path, "w");

  if (fp == NULL)
    err (EXIT_FAILURE, "%s", path);
  fprintf (fp, "extern int printf (const char *, ...);\n");
  for (unsigned i = 0; i < 12000; ++i) {
    unsigned a = rng () % 1000, b = rng () % 37 + 2, c = rng () % 61;

    fprintf (fp,
             "struct node_%u { struct node_%u *next; int key, value[%u]; };\n"
             "static int visit_%u (struct node_%u *n, unsigned depth)\n{\n"
             "  int sum = %u;\n  for (; n; n = n->next) {\n"
             "    if (n->key %% %u == %u) sum += n->value[depth %% %u];\n"
             "    else sum ^= n->key << %u;\n"
             "    if (sum > %u) printf (\"limit %u in %%u\\n\", depth);\n  }\n"
             "  return sum * %u;\n}\n"
             "int call_%u (void *p) { return visit_%u (p, %u)%s; }\n",
             i, i, b, i, i, a, b, c % b, b, c % 31, a * c, i, a | 1, i, i, c,
             i > 4 ? " + call_0 (p)" : "");
  }
  if (fclose (fp) == EOF)
    err (EXIT_FAILURE, "%s", path);
}

/* By posix_spawn, which returns when the program has replaced us: a child of
 * fork would for a moment count our own memory as its own.
 */
static pid_t
start_program (const char *const *argv)
{
  posix_spawn_file_actions_t actions;
  pid_t pid;
  int r;

  posix_spawn_file_actions_init (&actions);
  for (int fd = 0; fd <= 2; ++fd)
    posix_spawn_file_actions_addopen (&actions, fd, "/dev/null", O_RDWR, 0);
  r =
    posix_spawnp (&pid, argv[0], &actions, NULL, (char *const *) argv, environ);
  posix_spawn_file_actions_destroy (&actions);
  return r == 0 ? pid : -1;
}

static size_t
read_anonymous_pages (pid_t pid)
{
  char path[64], line[256];
  size_t kib = 0;
  FILE *fp;

  snprintf (path, sizeof path, "/proc/%d/status", (int) pid);
  if ((fp = fopen (path, "r")) == NULL)
    return 0;
  while (fgets (line, sizeof line, fp))
    if (sscanf (line, "RssAnon: %zu", &kib) == 1)
      break;
  fclose (fp);
  return kib / 4;
}

/* Let the program grow to `pages`, at most a minute, and stop it there. */
static bool
stop_when_grown (pid_t pid, size_t pages)
{
  const struct timespec pause = { 0, 10 * 1000 * 1000 };

  for (unsigned i = 0; i < 6000; ++i) {
    if (waitpid (pid, NULL, WNOHANG) != 0)
      return false;
    if (read_anonymous_pages (pid) >= pages)
      break;
    nanosleep (&pause, NULL);
  }
  kill (pid, SIGSTOP);
  return waitpid (pid, NULL, WUNTRACED) == pid &&
         read_anonymous_pages (pid) > 0;
}

/* Add those runs of [start, end) in which some page is resident. */
static void
add_resident_runs (struct runs *runs, int pagemap_fd, const char *mem_path,
                   uint64_t start, uint64_t end)
{
  const uint64_t present = UINT64_C (1) << 63;
  uint64_t entries[RUN_PAGES];

  for (uint64_t at = start; at < end; at += sizeof entries / 8 * PAGE_BYTES) {
    ssize_t bytes = pread (pagemap_fd, entries, sizeof entries,
                           at / PAGE_BYTES * sizeof *entries);
    bool resident = false;

    for (ssize_t i = 0; i < bytes / (ssize_t) sizeof *entries; ++i)
      resident |= at + i * PAGE_BYTES < end && (entries[i] & present);
    if (resident)
      add_run (runs, mem_path, at);
  }
}

static void
take_anonymous_memory (size_t wanted, pid_t pid)
{
  struct runs runs = { 0 };
  char path[64], mem_path[64], line[PATH_MAX + 128];
  int pagemap_fd;
  FILE *maps;

  snprintf (mem_path, sizeof mem_path, "/proc/%d/mem", (int) pid);
  snprintf (path, sizeof path, "/proc/%d/pagemap", (int) pid);
  pagemap_fd = open (path, O_RDONLY | O_CLOEXEC);
  snprintf (path, sizeof path, "/proc/%d/maps", (int) pid);
  maps = fopen (path, "r");
  if (pagemap_fd == -1 || maps == NULL)
    err (EXIT_FAILURE, "%s", path);
  while (fgets (line, sizeof line, maps)) {
    uint64_t start, end, inode;
    char perms[8];

    if (sscanf (line, "%" SCNx64 "-%" SCNx64 " %7s %*x %*s %" SCNu64, &start,
                &end, perms, &inode) == 4 &&
        inode == 0 && perms[0] == 'r' && perms[1] == 'w' && perms[3] == 'p')
      add_resident_runs (&runs, pagemap_fd, mem_path, start, end);
  }
  fclose (maps);
  close (pagemap_fd);
  take_runs (&runs, wanted);
}

static void
take_program (size_t wanted, const char *const *argv)
{
  pid_t pid = start_program (argv);

  if (pid == -1 || !stop_when_grown (pid, 2 * wanted))
    return; /* not there, or done: it has been reaped */
  take_anonymous_memory (wanted, pid);
  kill (pid, SIGKILL);
  waitpid (pid, NULL, 0);
}

static void
take_compiler (size_t wanted)
{
  char folder[] = "/tmp/corpus.XXXXXX", source[64], cc1[PATH_MAX] = "";
  const char *argv[] = { cc1,    "-quiet", "-O2",       "-g",
                         source, "-o",     "/dev/null", NULL };
  FILE *fp = popen ("gcc -print-prog-name=cc1 2>/dev/null", "r");

  if (fp == NULL || fgets (cc1, sizeof cc1, fp) == NULL)
    cc1[0] = '\0';
  if (fp != NULL)
    pclose (fp);
  cc1[strcspn (cc1, "\n")] = '\0';
  if (mkdtemp (folder) == NULL)
    err (EXIT_FAILURE, "%s", folder);
  snprintf (source, sizeof source, "%s/big.c", folder);
  write_synthetic_source (source);
  take_program (wanted, argv);
  unlink (source);
  rmdir (folder);
}

static void
take_python (size_t wanted)
{
  const char *argv[] = { "python3", "-c", python_program, NULL };

  take_program (wanted, argv);
}

static void
take_node (size_t wanted)
{
  const char *argv[] = { "node", "-e", node_program, NULL };

  take_program (wanted, argv);
}

/*--- Strata that are made. ---*/

static void
take_random (size_t wanted)
{
  uint64_t page[PAGE_BYTES / 8];

  for (size_t n = 0; n < wanted; ++n) {
    for (size_t i = 0; i < PAGE_BYTES / 8; ++i)
      page[i] = rng ();
    add_page ((uint8_t *) page);
  }
}

/* Of ten: seven of zeros, two of a 32-bit period, one of 64 bits. */
static void
take_same (size_t wanted)
{
  uint64_t page[PAGE_BYTES / 8];

  for (size_t n = 0; n < wanted; ++n) {
    uint64_t word = n % 10 < 7 ? 0 : rng ();

    if (n % 10 < 9)
      word = (word >> 32) * UINT64_C (0x100000001);
    for (size_t i = 0; i < PAGE_BYTES / 8; ++i)
      page[i] = word;
    add_page ((uint8_t *) page);
  }
}

static void
take_duplicates (size_t wanted)
{
  const size_t nr_real = nr_taken;

  for (size_t n = 0; n < wanted; ++n)
    add_page (corpus + rng () % nr_real * PAGE_BYTES);
}

/*--- All strata. ---*/

/* Real pages, copies of them, made pages: in this order. */
static struct stratum strata[] = {
  { "cc1", take_compiler, 20, RUN_PAGES, 0, 0 },
  { "python", take_python, 23, RUN_PAGES, 0, 0 },
  { "node", take_node, 19, RUN_PAGES, 0, 0 },
  { "include", take_headers, 8, RUN_PAGES, 0, 0 },
  { "libs", take_libraries, 13, RUN_PAGES, 0, 0 },
  { "duplicate", take_duplicates, 2, 1, 0, 0 },
  { "random", take_random, 8, 2, 0, 0 },
  { "same", take_same, 7, 1, 0, 0 },
};
#define NR_STRATA (sizeof strata / sizeof *strata)
static struct stratum *const last_real = &strata[4];

static void
take_strata (void)
{
  size_t lacking = 0, due = nr_corpus_pages;

  for (size_t i = 1; i < NR_STRATA; ++i)
    due -= nr_corpus_pages * strata[i].share_percent / 100;

  for (struct stratum *s = strata; s < strata + NR_STRATA; ++s) {
    size_t wanted =
      lacking + (s == strata ? due : nr_corpus_pages * s->share_percent / 100);

    s->first_page = nr_taken;
    s->take (wanted);
    s->nr_pages = nr_taken - s->first_page;
    lacking = wanted - s->nr_pages;
    if (lacking && s >= last_real)
      errx (EXIT_FAILURE, "too few pages on this machine: %zu short", lacking);
  }
}

/*--- Out. ---*/

static void
print_manifest (void)
{
  char *out = allocate (1, LZ4_COMPRESSBOUND (PAGE_BYTES) + 1024);
  ZSTD_CCtx *cctx = ZSTD_createCCtx ();
  size_t total_lz4 = 0, total_zstd = 0;

  printf ("%-10s %7s %7s %7s\n", "stratum", "pages", "lz4", "zstd:1");
  for (size_t i = 0; i < NR_STRATA; ++i) {
    size_t lz4 = 0, zstd = 0, bytes = strata[i].nr_pages * PAGE_BYTES;

    for (size_t n = 0; n < strata[i].nr_pages; ++n) {
      const uint8_t *page = corpus + (strata[i].first_page + n) * PAGE_BYTES;
      size_t a, b;

      if (is_same_filled (page))
        continue;
      a = LZ4_compress_default ((const char *) page, out, PAGE_BYTES,
                                LZ4_COMPRESSBOUND (PAGE_BYTES));
      b = ZSTD_compressCCtx (cctx, out, ZSTD_COMPRESSBOUND (PAGE_BYTES), page,
                             PAGE_BYTES, 1);
      lz4 += a < PAGE_BYTES ? a : PAGE_BYTES;
      zstd += b < PAGE_BYTES ? b : PAGE_BYTES;
    }
    printf ("%-10s %7zu %7.3f %7.3f\n", strata[i].name, strata[i].nr_pages,
            bytes ? (double) lz4 / bytes : 0,
            bytes ? (double) zstd / bytes : 0);
    total_lz4 += lz4;
    total_zstd += zstd;
  }
  printf ("%-10s %7zu %7.1f %7.1f MiB\n", "payload", nr_corpus_pages,
          total_lz4 / 1048576.0, total_zstd / 1048576.0);
  ZSTD_freeCCtx (cctx);
  free (out);
}

static void
write_shuffled (const char *path)
{
  struct {
    size_t page, nr;
  } *runs = allocate (nr_corpus_pages, sizeof *runs);
  size_t nr_runs = 0;
  FILE *fp = fopen (path, "w");

  if (fp == NULL)
    err (EXIT_FAILURE, "%s", path);
  for (size_t i = 0; i < NR_STRATA; ++i)
    for (size_t n = 0; n < strata[i].nr_pages; n += strata[i].run_pages) {
      size_t left = strata[i].nr_pages - n;

      runs[nr_runs].page = strata[i].first_page + n;
      runs[nr_runs++].nr =
        left < strata[i].run_pages ? left : strata[i].run_pages;
    }
  while (nr_runs > 0) {
    size_t pick = rng () % nr_runs;

    if (fwrite (corpus + runs[pick].page * PAGE_BYTES, PAGE_BYTES,
                runs[pick].nr, fp) != runs[pick].nr)
      err (EXIT_FAILURE, "%s", path);
    runs[pick] = runs[--nr_runs];
  }
  if (fclose (fp) == EOF)
    err (EXIT_FAILURE, "%s", path);
  free (runs);
}

int
main (int argc, char *argv[])
{
  static const struct option options[] = {
    { "output", required_argument, NULL, 'o' },
    { "size", required_argument, NULL, 's' },
    { "seed", required_argument, NULL, 'r' },
    { NULL, 0, NULL, 0 }
  };
  const char *output = NULL;
  size_t mib = 0;
  int c;

  while ((c = getopt_long (argc, argv, "o:s:", options, NULL)) != -1)
    switch (c) {
    case 'o':
      output = optarg;
      break;
    case 's':
      mib = strtoul (optarg, NULL, 10);
      break;
    case 'r':
      rng_state = strtoull (optarg, NULL, 0);
      break;
    default:
      mib = 0;
      optind = argc + 1;
    }
  if (output == NULL || mib == 0 || mib > 65536 || optind != argc) {
    fprintf (stderr, "usage: corpus -o FILE -s MIB [--seed N]\n");
    return 2;
  }

  nr_corpus_pages = mib * PAGES_PER_MIB;
  nr_seen_slots = 2 * nr_corpus_pages + 1;
  corpus = allocate (nr_corpus_pages, PAGE_BYTES);
  seen_hashes = allocate (nr_seen_slots, sizeof *seen_hashes);
  take_strata ();
  print_manifest ();
  write_shuffled (output);
  free (seen_hashes);
  free (corpus);
  return EXIT_SUCCESS;
}
