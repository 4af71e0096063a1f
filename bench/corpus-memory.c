/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A program builds data for as long as it is left to, is stopped when it
 * holds enough, and read through /proc/PID/mem: private writable mappings of
 * no file, those runs of them in which some page is resident.
 */

#define _GNU_SOURCE

#include <fcntl.h>
#include <err.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "corpus-children.h"
#include "corpus-memory.h"

/* A program that has just started holds little of what it is for. */
#define LEAST_PAGES (32 * PAGES_PER_MIB)

#define PAUSE_MS 10
#define MAX_GROW_MS 60000
#define MAX_STANDING_MS 3000 /* without growing: it will not any more */

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
  "const fs=require('fs'),keep=[],top='/usr/include/',cxx=top+'c++/';\n"
  "const files=['sys','net','linux','asm-generic'].map(d=>top+d)\n"
  "  .concat(fs.existsSync(cxx)?fs.readdirSync(cxx).map(d=>cxx+d):[])\n"
  "  .filter(d=>fs.existsSync(d))\n"
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
write_synthetic_source (struct pages *pages, const char *path)
{
  FILE *fp = fopen (path, "w");

  if (fp == NULL)
    err (EXIT_FAILURE, "%s", path);
  fprintf (fp, "extern int printf (const char *, ...);\n");
  for (unsigned i = 0; i < 12000; ++i) {
    unsigned a = pages_random (pages) % 1000, b = pages_random (pages) % 37 + 2,
             c = pages_random (pages) % 61;

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
  return kib / (PAGE_BYTES / 1024);
}

/* Let the program grow to `pages`, at most MAX_GROW_MS, and stop it there. */
static bool
stop_when_grown (pid_t pid, size_t pages)
{
  const struct timespec pause = { 0, PAUSE_MS * 1000 * 1000 };
  unsigned standing_ms = 0;
  size_t most = 0;

  for (unsigned ms = 0; ms < MAX_GROW_MS; ms += PAUSE_MS) {
    size_t now;

    if (waitpid (pid, NULL, WNOHANG) != 0)
      return false;
    now = read_anonymous_pages (pid);
    standing_ms = now > most ? 0 : standing_ms + PAUSE_MS;
    most = now > most ? now : most;
    if (now >= pages || standing_ms >= MAX_STANDING_MS)
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
take_anonymous_memory (struct pages *pages, pid_t pid)
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
  while (maps && pagemap_fd != -1 && fgets (line, sizeof line, maps)) {
    uint64_t start, end, inode;
    char perms[8];

    if (sscanf (line, "%" SCNx64 "-%" SCNx64 " %7s %*x %*s %" SCNu64, &start,
                &end, perms, &inode) == 4 &&
        inode == 0 && perms[0] == 'r' && perms[1] == 'w' && perms[3] == 'p')
      add_resident_runs (&runs, pagemap_fd, mem_path, start, end);
  }
  if (maps)
    fclose (maps);
  if (pagemap_fd != -1)
    close (pagemap_fd);
  take_runs (pages, &runs);
}

static void
take_program (struct pages *pages, const char *const *argv, const char *what)
{
  const size_t grown = 2 * pages->nr_wanted;
  pid_t pid = start_program (argv, NULL, -1);

  if (pid == -1) {
    pages_note (pages, "%s: not there", what);
    return;
  }
  if (!stop_when_grown (pid, grown > LEAST_PAGES ? grown : LEAST_PAGES)) {
    pages_note (pages, "%s: ended before it held enough", what);
    return; /* it has been reaped */
  }
  pages_note (pages, "anonymous memory of %s at %zu MiB", what,
              read_anonymous_pages (pid) / PAGES_PER_MIB);
  take_anonymous_memory (pages, pid);
  kill (pid, SIGKILL);
  waitpid (pid, NULL, 0);
}

void
take_compiler (struct pages *pages)
{
  char *source = scratch_path ("big.c"), cc1[PATH_MAX] = "";
  const char *argv[] = { cc1,    "-quiet", "-O2",       "-g",
                         source, "-o",     "/dev/null", NULL };
  FILE *fp = popen ("gcc -print-prog-name=cc1 2>/dev/null", "r");

  if (fp == NULL || fgets (cc1, sizeof cc1, fp) == NULL)
    cc1[0] = '\0';
  if (fp != NULL)
    pclose (fp);
  cc1[strcspn (cc1, "\n")] = '\0';
  write_synthetic_source (pages, source);
  take_program (pages, argv, "gcc's cc1 -O2 -g");
  unlink (source);
  free (source);
}

void
take_python (struct pages *pages)
{
  const char *argv[] = { "python3", "-c", python_program, NULL };

  take_program (pages, argv, "python3");
}

void
take_node (struct pages *pages)
{
  const char *argv[] = { "node", "-e", node_program, NULL };

  take_program (pages, argv, "node");
}
