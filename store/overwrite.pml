/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The write at the limit, through the bounce object, as a model for spin; run
 * by tests/check-models.sh.
 *
 * Stands for: overwrite_slot (store/block.c) of two blocks of two groups,
 * which share the bounce object; read_group; and one move of block 0's object
 * by move_block (store/relocate.c), which frees the slot that it leaves.
 *
 *     slot     0              1              2         3
 *              block 0's      block 1's      bounce    free
 *
 * Left out: everything of store/publish.pml but that move; that the payload
 * fits the slot; the table, since an entry that is replaced by another needs
 * no page.
 *
 * Memory model: spin's is sequentially consistent; here all is read and
 * written under a lock.
 *
 * Checked: in every state, so after a kill at any moment, each entry points at
 * a whole payload, the old or the new one; readers see such a payload; no slot
 * is written that is not the block's; no deadlock between the group locks,
 * the bounce lock and the compactor, which only tries the group.
 */

#define BUG_NO_BOUNCE 1         /* straight into the slot */
#define BUG_NO_BOUNCE_LOCK 2
#define BUG_STAY_IN_BOUNCE 3    /* no second publish */
#define BUG_LOAD_EARLY 4        /* the slot to overwrite, before the lock */
#define BUG_MOVE_UNLOCKED 5     /* the compactor takes no group */
#define BUG_READ_UNLOCKED 6

local byte bug;                 /* changes no more: no need to interleave */
inline choose_bug ()
{
  c_code { now.bug = getenv ("BUG") ? atoi (getenv ("BUG")) : 0; }
}

#define BOUNCE 2
byte entry[2];                  /* a slot */
byte stored[2];                 /* what the entry stands for */
byte owner[4];                  /* block + 1; 0: free; of the bounce: 9 */
byte low[4], high[4];           /* the payload, in two halves */
bool locked[2], bounce_locked;
byte nr_running = 6;

#define OF(b) (owner[entry[b]] == (b) + 1 || entry[b] == BOUNCE)
#define IS_WHOLE(b) (OF (b) && low[entry[b]] == stored[b] && high[entry[b]] == stored[b])

inline copy (slot, value)
{
  atomic { assert (owner[slot] == b + 1 || slot == BOUNCE);
           low[slot] = value };
  atomic { assert (owner[slot] == b + 1 || slot == BOUNCE);
           high[slot] = value }
}

proctype overwrite (byte b, value)
{
  byte old;

  if
  :: bug == BUG_LOAD_EARLY -> old = entry[b]
  :: else
  fi;
  atomic { !locked[b] -> locked[b] = true };
  if
  :: bug != BUG_LOAD_EARLY -> old = entry[b]
  :: else
  fi;
  if
  :: bug == BUG_NO_BOUNCE -> copy (old, value); stored[b] = value
  :: else ->
     atomic { !bounce_locked || bug == BUG_NO_BOUNCE_LOCK ->
              bounce_locked = true };
     copy (BOUNCE, value);
     atomic { entry[b] = BOUNCE; stored[b] = value };
     if
     :: bug != BUG_STAY_IN_BOUNCE -> copy (old, value); entry[b] = old
     :: else
     fi;
     bounce_locked = false
  fi;
  locked[b] = false;
  atomic { old = 0; nr_running-- }
}

proctype read (byte b)
{
  byte slot, value;

  atomic { !locked[b] -> locked[b] = true };
  atomic { slot = entry[b]; value = stored[b] };
  if
  :: bug == BUG_READ_UNLOCKED -> locked[b] = false
  :: else
  fi;
  assert (low[slot] == value);
  assert (high[slot] == value);
  if
  :: bug != BUG_READ_UNLOCKED -> locked[b] = false
  :: else
  fi;
  atomic { slot = 0; value = 0; nr_running-- }
}

/* Slot 3 is claimed with the owner; what is not needed in the end is freed. */
proctype move ()
{
  byte b = 0, drop = 3;

  owner[3] = 1;
  if
  :: atomic { !locked[0] || bug == BUG_MOVE_UNLOCKED ->
              locked[0] = (bug == BUG_MOVE_UNLOCKED -> locked[0] : true) };
     if
     :: entry[0] == 0 ->
        copy (3, low[0]);
        entry[0] = 3;
        drop = 0
     :: else
     fi;
     locked[0] = (bug == BUG_MOVE_UNLOCKED -> locked[0] : false)
  :: locked[0] && bug != BUG_MOVE_UNLOCKED
  fi;
  atomic { owner[drop] = 0; low[drop] = 0; high[drop] = 0; nr_running-- }
}

proctype check ()
{
  do
  :: !IS_WHOLE (0) || !IS_WHOLE (1) -> assert (false)
  :: nr_running == 0 -> assert (entry[0] != BOUNCE && entry[1] != BOUNCE);
     break
  od
}

init {
  atomic {
    choose_bug ();
    entry[0] = 0; stored[0] = 8; owner[0] = 1; low[0] = 8; high[0] = 8;
    entry[1] = 1; stored[1] = 9; owner[1] = 2; low[1] = 9; high[1] = 9;
    owner[BOUNCE] = 9;
    run overwrite (0, 1); run overwrite (0, 2); run overwrite (1, 3);
    run read (0); run read (1); run move (); run check ()
  }
}
