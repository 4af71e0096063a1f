/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A shop's database: customers, their orders, a log of events, each with an
 * index.  A round is three transactions: rows come, rows change, rows go.
 * Rounds go on until the file is large enough, so its pages are full, partly
 * full after deletions, and free with what they held before.
 *
 * The SQL is seeded and the same for the program sqlite3 and for python3's
 * module.
 */

#define _GNU_SOURCE

#include <err.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "corpus-children.h"
#include "corpus-database.h"

/* What comes in a round, for one customer, and what that needs in the file
 * with its indexes: measured.
 */
#define ORDERS_EACH 4
#define EVENTS_EACH 6
#define CUSTOMER_BYTES 1000
#define ROUNDS 6
#define MAX_ROUNDS 60

static const char *const schema =
  "PRAGMA page_size=4096; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;\n"
  "CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT, mail TEXT,\n"
  "  street TEXT, city TEXT, since TEXT, balance REAL);\n"
  "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER,\n"
  "  placed TEXT, status TEXT, total REAL, note TEXT);\n"
  "CREATE TABLE events (id INTEGER PRIMARY KEY, at INTEGER, level TEXT,\n"
  "  source TEXT, session TEXT, message TEXT);\n"
  "CREATE INDEX customers_by_mail ON customers (mail);\n"
  "CREATE INDEX orders_by_customer ON orders (customer);\n"
  "CREATE INDEX events_by_session ON events (session);\n";

static const char *const first_names[] = {
  "Anna", "Ben",   "Carla",  "David", "Elif",   "Farid", "Grace", "Hugo",
  "Ines", "Jonas", "Katya",  "Liam",  "Maria",  "Nils",  "Olga",  "Pedro",
  "Rosa", "Sven",  "Tomoko", "Uma",   "Viktor", "Wen",   "Yusuf", "Zoe",
};
static const char *const last_names[] = {
  "Almeida", "Becker",   "Costa",    "Dubois", "Eriksen",  "Fischer",
  "Garcia",  "Hansen",   "Ivanova",  "Jones",  "Kowalski", "Lindgren",
  "Moreau",  "Nakamura", "O Brien",  "Petrov", "Rossi",    "Santos",
  "Tanaka",  "Ullmann",  "Virtanen", "Weber",  "Yilmaz",   "Zhang",
};
static const char *const streets[] = {
  "Station Road", "High Street",   "Church Lane", "Mill Street",
  "Garden Way",   "Bridge Street", "Park Avenue", "Harbour Walk",
  "School Lane",  "Market Square",
};
static const char *const cities[] = {
  "Lisbon", "Hamburg", "Lyon",    "Oslo",    "Krakow", "Porto",
  "Osaka",  "Ghent",   "Turin",   "Malmo",   "Izmir",  "Leeds",
  "Bergen", "Graz",    "Tampere", "Vilnius",
};
static const char *const states[] = { "new",     "paid",      "packed",
                                      "shipped", "delivered", "returned" };
static const char *const notes[] = {
  "",
  "",
  "leave at the door",
  "call before delivery",
  "gift wrap",
  "second attempt",
  "invoice by mail",
  "customer asked for a later date",
};
static const char *const levels[] = { "info", "info", "info", "warning",
                                      "error" };
static const char *const messages[] = {
  "payment accepted",
  "payment refused by the bank",
  "session opened",
  "session closed after timeout",
  "parcel handed to carrier",
  "stock below threshold for item",
  "address could not be verified",
  "retry of request",
  "cache miss for catalogue page",
};
#define NR_OF(table) (sizeof (table) / sizeof *(table))
#define ANY_OF(table) ((table)[pages_random (pages) % NR_OF (table)])

struct rows {
  unsigned nr_customers, nr_orders, nr_events;
};

static void
write_customer (struct pages *pages, FILE *fp, unsigned id)
{
  const char *first = ANY_OF (first_names), *last = ANY_OF (last_names);
  const unsigned r = pages_random (pages) % 1000000;

  fprintf (fp,
           "INSERT INTO customers VALUES (%u, '%s %s', '%s.%u@%s.example', "
           "'%u %s', '%05u %s', '20%02u-%02u-%02u', %u.%02u);\n",
           id, first, last, first, r, ANY_OF (cities), r % 199 + 1,
           ANY_OF (streets), r % 90000 + 9999, ANY_OF (cities), r % 26,
           r % 12 + 1, r % 28 + 1, r % 5000, r % 100);
}

static void
write_order (struct pages *pages, FILE *fp, const struct rows *rows)
{
  const unsigned r = pages_random (pages) % 1000000;

  fprintf (fp,
           "INSERT INTO orders VALUES (%u, %u, '2026-%02u-%02u %02u:%02u', "
           "'%s', %u.%02u, '%s');\n",
           rows->nr_orders, r % rows->nr_customers + 1, r % 12 + 1, r % 28 + 1,
           r % 24, r % 60, ANY_OF (states), r % 900, r % 100, ANY_OF (notes));
}

static void
write_event (struct pages *pages, FILE *fp, const struct rows *rows)
{
  const unsigned r = pages_random (pages) % 1000000;

  fprintf (fp,
           "INSERT INTO events VALUES (%u, %u, '%s', 'worker-%u', '%016jx', "
           "'%s %u');\n",
           rows->nr_events, 1780000000 + rows->nr_events * 3 + r % 3,
           ANY_OF (levels), r % 12, (uintmax_t) pages_random (pages),
           ANY_OF (messages), r);
}

static void
write_changes (struct pages *pages, FILE *fp, const struct rows *rows,
               unsigned nr)
{
  fprintf (fp, "COMMIT;\nBEGIN;\n");
  for (unsigned i = 0; i < nr; ++i) {
    fprintf (fp, "UPDATE orders SET status='%s', note='%s' WHERE id=%u;\n",
             ANY_OF (states), ANY_OF (notes),
             (unsigned) (pages_random (pages) % rows->nr_orders));
    fprintf (fp, "UPDATE customers SET balance=balance+%u.5 WHERE id=%u;\n",
             (unsigned) (pages_random (pages) % 90),
             (unsigned) (pages_random (pages) % rows->nr_customers) + 1);
  }
  fprintf (fp, "COMMIT;\nBEGIN;\n");
  for (unsigned i = 0; i < nr; ++i)
    fprintf (fp, "DELETE FROM orders WHERE id=%u;\n",
             (unsigned) (pages_random (pages) % rows->nr_orders));
  /* An old part of the log goes as a whole. */
  fprintf (fp, "DELETE FROM events WHERE id BETWEEN %u AND %u;\n",
           rows->nr_events / 2, rows->nr_events / 2 + nr);
}

/* nr customers come, with what is theirs. */
static void
write_round (struct pages *pages, const char *path, struct rows *rows,
             unsigned nr)
{
  FILE *fp = fopen (path, "w");

  if (fp == NULL)
    err (EXIT_FAILURE, "%s", path);
  fprintf (fp, "%sBEGIN;\n", rows->nr_customers == 0 ? schema : "");
  for (unsigned i = 0; i < nr; ++i) {
    write_customer (pages, fp, ++rows->nr_customers);
    for (unsigned j = 0; j < ORDERS_EACH; ++j, ++rows->nr_orders)
      write_order (pages, fp, rows);
    for (unsigned j = 0; j < EVENTS_EACH; ++j, ++rows->nr_events)
      write_event (pages, fp, rows);
  }
  write_changes (pages, fp, rows, nr);
  fprintf (fp, "COMMIT;\n");
  if (fclose (fp) == EOF)
    err (EXIT_FAILURE, "%s", path);
}

static bool
run_sql (bool by_program, const char *database, const char *sql)
{
  static const char program[] = "import sqlite3,sys\n"
                                "db=sqlite3.connect(sys.argv[1])\n"
                                "db.executescript(sys.stdin.read())\n"
                                "db.close()\n";
  const char *sqlite[] = { "sqlite3",   "-batch", "-bail", "-init",
                           "/dev/null", database, NULL };
  const char *python[] = { "python3", "-c", program, database, NULL };

  return run_program (by_program ? sqlite : python, sql);
}

/* Returns how many rounds there were; 0: there is nobody to make it. */
static unsigned
make_database (struct pages *pages, const char *database, bool by_program)
{
  char *sql = scratch_path ("sql");
  const off_t wanted = (off_t) pages->nr_wanted * PAGE_BYTES / 8 * 9;
  const unsigned nr = wanted / ROUNDS / CUSTOMER_BYTES + 1;
  struct rows rows = { 0 };
  struct stat st = { 0 };
  unsigned round = 0;

  while (round < MAX_ROUNDS && st.st_size < wanted) {
    write_round (pages, sql, &rows, nr);
    if (!run_sql (by_program, database, sql) || stat (database, &st) == -1)
      break;
    round++;
  }
  unlink (sql);
  free (sql);
  return round;
}

void
take_database (struct pages *pages)
{
  static const char *const makers[] = { "python3's module sqlite3", "sqlite3" };
  char *database = scratch_path ("database");
  const uint64_t state = pages->rng_state;
  struct runs runs = { 0 };
  unsigned rounds = 0;
  struct stat st;

  for (int by_program = 1; by_program >= 0 && rounds == 0; --by_program) {
    unlink (database);
    pages->rng_state = state;
    rounds = make_database (pages, database, by_program);
    if (rounds == 0)
      pages_note (pages, "%s: not there, or failed", makers[by_program]);
    else if (stat (database, &st) == 0) {
      pages_note (pages,
                  "pages of a database of %jd KiB after %u rounds of "
                  "inserts, updates, deletes by %s",
                  (intmax_t) st.st_size / 1024, rounds, makers[by_program]);
      add_runs_of_file (&runs, database, st.st_size);
    }
  }
  take_runs (pages, &runs);
  unlink (database);
  free (database);
}
