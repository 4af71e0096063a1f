/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A plugin of nbdkit to measure against, not to use: what any RAM disk that
 * compresses with LZ4, or zstd, has to do, and nothing else.
 *
 *   nbdkit bench/nbdkit-bare-plugin.so size=512M [codec=lz4|zstd]
 *          [level=1]           of lz4: the acceleration
 *
 * A write encodes its block straight into the slot that the block has in a
 * table of 4 KiB slots, and a read decodes it from there into the client's
 * buffer.  No checksum, no allocator, no lock, no statistics; no memory is
 * saved; a block that does not shrink is kept as it is.  Of two requests in
 * flight for one block the outcome is undefined (nbd-load has none), and only
 * whole blocks are served.
 *
 * What allocator=malloc is faster than this is the codec's; what this is
 * faster than zmem is zmem's.
 */

#define NBDKIT_API_VERSION 2

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <nbdkit-plugin.h>

#include <lz4.h>
#include <zstd.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL
#define BLOCK_BYTES 4096

static int64_t size;
static int level = 1;
static bool is_zstd;
static char *slots;
static uint16_t *slot_bytes; /* encoded; 0: zeros; BLOCK_BYTES: as it is */

/* A thread's, for as long as it lives; zstd's are never freed: 16 a
 * connection, of a server that lives for a bench.
 */
static _Thread_local LZ4_stream_t lz4_state;
static _Thread_local ZSTD_CCtx *zstd_cctx;
static _Thread_local ZSTD_DCtx *zstd_dctx;

static int
bare_config (const char *key, const char *value)
{
  if (strcmp (key, "size") == 0) {
    size = nbdkit_parse_size (value);
    return size < 0 ? -1 : 0;
  }
  if (strcmp (key, "level") == 0)
    return nbdkit_parse_int (key, value, &level);
  if (strcmp (key, "codec") == 0) {
    is_zstd = strcmp (value, "zstd") == 0;
    if (is_zstd || strcmp (value, "lz4") == 0)
      return 0;
    nbdkit_error ("codec=%s: neither lz4 nor zstd", value);
    return -1;
  }
  nbdkit_error ("%s: not one of size, codec, level", key);
  return -1;
}

static int
bare_get_ready (void)
{
  if (size <= 0 || size % BLOCK_BYTES != 0) {
    nbdkit_error ("size= must be given, in whole blocks of %d bytes",
                  BLOCK_BYTES);
    return -1;
  }
  slots = mmap (NULL, size, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  slot_bytes = calloc (size / BLOCK_BYTES, sizeof *slot_bytes);
  if (slots == MAP_FAILED || slot_bytes == NULL) {
    nbdkit_error ("out of memory");
    return -1;
  }
  return 0;
}

static void *
bare_open (int readonly)
{
  (void) readonly;
  return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t
bare_get_size (void *handle)
{
  (void) handle;
  return size;
}

static int
bare_can_multi_conn (void *handle)
{
  (void) handle;
  return 1;
}

static int
bare_block_size (void *handle, uint32_t *minimum, uint32_t *preferred,
                 uint32_t *maximum)
{
  (void) handle;
  *minimum = *preferred = BLOCK_BYTES;
  *maximum = 64 << 20;
  return 0;
}

/* 0: does not shrink. */
static int
encode (const char *block, char *slot)
{
  size_t r;

  if (!is_zstd)
    return LZ4_compress_fast_extState (&lz4_state, block, slot, BLOCK_BYTES,
                                       BLOCK_BYTES - 1, level);
  if (zstd_cctx == NULL)
    zstd_cctx = ZSTD_createCCtx ();
  r = ZSTD_compressCCtx (zstd_cctx, slot, BLOCK_BYTES - 1, block, BLOCK_BYTES,
                         level);
  return ZSTD_isError (r) ? 0 : (int) r;
}

static bool
decode (const char *slot, int bytes, char *block)
{
  if (!is_zstd)
    return LZ4_decompress_safe (slot, block, bytes, BLOCK_BYTES) == BLOCK_BYTES;
  if (zstd_dctx == NULL)
    zstd_dctx = ZSTD_createDCtx ();
  return ZSTD_decompressDCtx (zstd_dctx, block, BLOCK_BYTES, slot, bytes) ==
         BLOCK_BYTES;
}

static bool
read_block (char *block, uint64_t blkno)
{
  const char *slot = slots + blkno * BLOCK_BYTES;
  const int bytes = slot_bytes[blkno];

  if (bytes == 0)
    memset (block, 0, BLOCK_BYTES);
  else if (bytes == BLOCK_BYTES)
    memcpy (block, slot, BLOCK_BYTES);
  else
    return decode (slot, bytes, block);
  return true;
}

static void
write_block (const char *block, uint64_t blkno)
{
  char *slot = slots + blkno * BLOCK_BYTES;
  const int bytes = encode (block, slot);

  if (bytes == 0)
    memcpy (slot, block, BLOCK_BYTES);
  slot_bytes[blkno] = bytes ? bytes : BLOCK_BYTES;
}

static int
bare_pread (void *handle, void *buf, uint32_t count, uint64_t offset,
            uint32_t flags)
{
  char *block = buf;

  (void) handle, (void) flags;
  for (uint32_t i = 0; i < count; i += BLOCK_BYTES)
    if (!read_block (block + i, (offset + i) / BLOCK_BYTES)) {
      nbdkit_error ("a block is damaged");
      errno = EIO;
      return -1;
    }
  return 0;
}

static int
bare_pwrite (void *handle, const void *buf, uint32_t count, uint64_t offset,
             uint32_t flags)
{
  const char *block = buf;

  (void) handle, (void) flags;
  for (uint32_t i = 0; i < count; i += BLOCK_BYTES)
    write_block (block + i, (offset + i) / BLOCK_BYTES);
  return 0;
}

static int
bare_trim (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  (void) handle, (void) flags;
  memset (&slot_bytes[offset / BLOCK_BYTES], 0,
          count / BLOCK_BYTES * sizeof *slot_bytes);
  return 0;
}

static struct nbdkit_plugin plugin = {
  .name = "bare",
  .config = bare_config,
  .magic_config_key = "size",
  .get_ready = bare_get_ready,
  .open = bare_open,
  .get_size = bare_get_size,
  .can_multi_conn = bare_can_multi_conn,
  .block_size = bare_block_size,
  .pread = bare_pread,
  .pwrite = bare_pwrite,
  .trim = bare_trim,
};

NBDKIT_REGISTER_PLUGIN (plugin)
