/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The default limit: how much memory this process can have, and what says
 * so.
 *
 *   /proc/meminfo          MemTotal
 *   /proc/self/cgroup      the path of our group, in each hierarchy
 *   /proc/self/mountinfo   where the hierarchies are mounted, and which part
 *                          of each (a container sees its own part, under a
 *                          path of the host's)
 *   MOUNT/PATH/memory.max, memory.high      version 2, and in each group
 *   MOUNT/PATH/memory.limit_in_bytes        version 1,   above that one
 *
 * memory.high counts although it is no hard limit: a process above it is
 * throttled until it hardly runs.  A group without a limit says "max", or,
 * in version 1, a number larger than any memory: neither is the least.
 *
 * Called once, before the disk is created.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "limit.h"
#include "pages.h"

/* The process's group in each hierarchy, as /proc/self/cgroup has it; "":
 * none.
 */
struct cgroup_paths {
  char v1[PATH_MAX]; /* of the controller "memory" */
  char v2[PATH_MAX];
};

/* A line of /proc/self/mountinfo, as far as we care. */
struct mount {
  const char *root; /* the part of the hierarchy that is seen */
  const char *mount_point;
  const char *type;
  const char *super_options;
};

static FILE *
open_under (const char *root, const char *path)
{
  char *name;
  FILE *file;

  if (asprintf (&name, "%s%s", root, path) == -1)
    return NULL;
  file = fopen (name, "re");
  free (name);
  return file;
}

static void
close_file (FILE **file)
{
  if (*file != NULL)
    fclose (*file);
}
#define CLOSED_AT_END __attribute__ ((cleanup (close_file)))

static void
free_string (char **string)
{
  free (*string);
}
#define FREED_AT_END __attribute__ ((cleanup (free_string)))

/* A file that is not there, or that we may not read, bounds nothing; one that
 * could not be read for want of memory or of descriptors may well do.
 */
static int
shortage (void)
{
  return errno == ENOMEM || errno == EMFILE || errno == ENFILE ? -errno : 0;
}

/* Read a line without its newline into *line; false at the end, and with
 * ENOMEM in errno where there is no memory for it, else 0.
 */
static bool
read_line (FILE *file, char **line, size_t *line_bytes)
{
  errno = 0;
  if (getline (line, line_bytes, file) == -1)
    return false;
  (*line)[strcspn (*line, "\n")] = '\0';
  return true;
}

/* Is `word` one of the comma-separated words of `list`? */
static bool
list_has (const char *list, const char *word)
{
  const size_t length = strlen (word);

  while (true) {
    const size_t n = strcspn (list, ",");

    if (n == length && strncmp (list, word, n) == 0)
      return true;
    if (list[n] == '\0')
      return false;
    list += n + 1;
  }
}

static int
read_physical_memory (const char *root, struct memory_bound *bound)
{
  CLOSED_AT_END FILE *file = open_under (root, "/proc/meminfo");
  FREED_AT_END char *line = NULL;
  size_t line_bytes = 0;
  uint64_t kib;

  if (file == NULL)
    return -errno;
  while (read_line (file, &line, &line_bytes))
    if (sscanf (line, "MemTotal: %" SCNu64 " kB", &kib) == 1) {
      bound->bytes = kib * 1024;
      snprintf (bound->text, sizeof bound->text, "physical memory");
      return 0;
    }
  return errno == ENOMEM ? -ENOMEM : -ENODATA;
}

/* Lines are ID:CONTROLLERS:PATH; of version 2 it is 0::PATH. */
static int
read_cgroup_paths (const char *root, struct cgroup_paths *paths)
{
  CLOSED_AT_END FILE *file = open_under (root, "/proc/self/cgroup");
  FREED_AT_END char *line = NULL;
  size_t line_bytes = 0;

  paths->v1[0] = paths->v2[0] = '\0';
  if (file == NULL)
    return shortage ();
  while (read_line (file, &line, &line_bytes)) {
    char *rest = line;
    const char *id = strsep (&rest, ":");
    const char *controllers = strsep (&rest, ":");

    if (rest == NULL)
      continue;
    if (strcmp (id, "0") == 0 && *controllers == '\0')
      snprintf (paths->v2, sizeof paths->v2, "%s", rest);
    else if (list_has (controllers, "memory"))
      snprintf (paths->v1, sizeof paths->v1, "%s", rest);
  }
  return shortage ();
}

/* A path in mountinfo has \040 for a space, and so on: undo it in place. */
static void
unescape (char *path)
{
  char *to = path;

  for (; *path != '\0'; ++to) {
    unsigned code;

    if (*path == '\\' && sscanf (path + 1, "%3o", &code) == 1 &&
        path[3] != '\0') {
      *to = (char) code;
      path += 4;
    }
    else
      *to = *path++;
  }
  *to = '\0';
}

/* ID PARENT MAJOR:MINOR ROOT MOUNT-POINT OPTIONS [TAGS...] - TYPE SOURCE
 * SUPER-OPTIONS.  `mount` points into `line`, which is cut up.
 */
static bool
parse_mount (char *line, struct mount *mount)
{
  char *fields[5], *rest = line;
  unsigned i;

  for (i = 0; i < 5; ++i)
    if ((fields[i] = strsep (&rest, " ")) == NULL)
      return false;
  if (rest == NULL || (rest = strstr (rest, " - ")) == NULL)
    return false;
  rest += strlen (" - ");
  mount->type = strsep (&rest, " ");
  strsep (&rest, " ");
  if (rest == NULL)
    return false;
  mount->super_options = rest;
  unescape (fields[3]);
  unescape (fields[4]);
  mount->root = fields[3];
  mount->mount_point = fields[4];
  return true;
}

/* Where group `path` lies below the mount point, "" being that itself.  A
 * group that the mount does not show (of a container whose path is the
 * host's, or outside of our namespace: "/../x") has its limits, as far as
 * we can see, at the top.
 */
static const char *
path_below_mount (const char *path, const char *mount_root)
{
  size_t length = strlen (mount_root);

  if (strncmp (path, "/..", 3) == 0)
    return "";
  if (strcmp (mount_root, "/") == 0)
    length = 0;
  if (strncmp (path, mount_root, length) != 0 ||
      (path[length] != '/' && path[length] != '\0'))
    return "";
  path += length;
  return strcmp (path, "/") == 0 ? "" : path;
}

/* Lower the bound to what the file of that group says, if it is less.  Here
 * and below: 0, or -errno, a shortage.
 */
static int
apply_group_file (const char *root, const char *mount_point, const char *group,
                  const char *name, struct memory_bound *bound)
{
  FREED_AT_END char *path = NULL;
  CLOSED_AT_END FILE *file = NULL;
  uint64_t bytes;

  if (asprintf (&path, "%s%s/%s", mount_point, group, name) == -1) {
    path = NULL;
    return -ENOMEM;
  }
  file = open_under (root, path);
  if (file == NULL)
    return shortage (); /* the top group has no such file */
  if (fscanf (file, "%" SCNu64, &bytes) == 1 /* not "max" */
      && bytes < bound->bytes) {
    bound->bytes = bytes;
    snprintf (bound->text, sizeof bound->text, "%s of the control group %s",
              name, *group == '\0' ? "/" : group);
  }
  return 0;
}

/* Apply the files of a group and of those above it, as far as the mount
 * shows them.
 */
static int
apply_groups (const char *root, const struct mount *mount, const char *path,
              const char *const *names, struct memory_bound *bound)
{
  FREED_AT_END char *group = strdup (path_below_mount (path, mount->root));
  unsigned i;
  int r;

  if (group == NULL)
    return -ENOMEM;
  while (true) {
    char *slash;

    for (i = 0; names[i] != NULL; ++i) {
      r = apply_group_file (root, mount->mount_point, group, names[i], bound);
      if (r < 0)
        return r;
    }
    slash = strrchr (group, '/');
    if (slash == NULL)
      return 0;
    *slash = '\0';
  }
}

static int
apply_cgroups (const char *root, struct memory_bound *bound)
{
  static const char *const v1_names[] = { "memory.limit_in_bytes", NULL };
  static const char *const v2_names[] = { "memory.max", "memory.high", NULL };
  CLOSED_AT_END FILE *file = open_under (root, "/proc/self/mountinfo");
  FREED_AT_END char *line = NULL;
  size_t line_bytes = 0;
  struct cgroup_paths paths;
  struct mount mount;
  int r;

  if (file == NULL)
    return shortage ();
  r = read_cgroup_paths (root, &paths);
  if (r < 0)
    return r;
  while (read_line (file, &line, &line_bytes)) {
    if (!parse_mount (line, &mount))
      continue;
    if (strcmp (mount.type, "cgroup2") == 0 && paths.v2[0] != '\0')
      r = apply_groups (root, &mount, paths.v2, v2_names, bound);
    else if (strcmp (mount.type, "cgroup") == 0 && paths.v1[0] != '\0' &&
             list_has (mount.super_options, "memory"))
      r = apply_groups (root, &mount, paths.v1, v1_names, bound);
    if (r < 0)
      return r;
  }
  return shortage ();
}

int
memory_bound_find (const char *root, struct memory_bound *ret)
{
  const int r = read_physical_memory (root, ret);

  return r < 0 ? r : apply_cgroups (root, ret);
}

uint64_t
memory_bound_percent (const struct memory_bound *bound, unsigned percent)
{
  /* Divided first: a limit near 2^64 would overflow. */
  const uint64_t bytes =
    bound->bytes / 100 * percent + bound->bytes % 100 * percent / 100;

  return bytes & ~((uint64_t) PAGE_BYTES - 1);
}

unsigned
memory_bound_default_percent (const struct memory_bound *bound)
{
  unsigned percent = LIMIT_DEFAULT_PERCENT;

  while (percent > LIMIT_DEFAULT_LEAST_PERCENT &&
         bound->bytes - memory_bound_percent (bound, percent) <
           LIMIT_DEFAULT_LEAVES)
    percent--;
  return percent;
}

/* The file below that path of the control group; false: none. */
static bool
find_group_pressure (const char *root, char *path, size_t path_bytes)
{
  CLOSED_AT_END FILE *file = open_under (root, "/proc/self/mountinfo");
  FREED_AT_END char *line = NULL;
  size_t line_bytes = 0;
  struct cgroup_paths paths;
  struct mount mount;

  if (file == NULL || read_cgroup_paths (root, &paths) < 0)
    return false;
  while (paths.v2[0] != '\0' && read_line (file, &line, &line_bytes)) {
    int n;

    if (!parse_mount (line, &mount) || strcmp (mount.type, "cgroup2") != 0)
      continue;
    n = snprintf (path, path_bytes, "%s%s%s/memory.pressure", root,
                  mount.mount_point, path_below_mount (paths.v2, mount.root));
    if (n > 0 && (size_t) n < path_bytes && access (path, F_OK) == 0)
      return true;
  }
  return false;
}

const char *
memory_pressure_path (const char *root, char *path, size_t path_bytes)
{
  int n;

  if (find_group_pressure (root, path, path_bytes))
    return path;
  n = snprintf (path, path_bytes, "%s/proc/pressure/memory", root);
  return n > 0 && (size_t) n < path_bytes && access (path, F_OK) == 0 ? path
                                                                      : NULL;
}
