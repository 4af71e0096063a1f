/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The list of servers.
 */

#ifndef ZMEM_CTL_LIST_H
#define ZMEM_CTL_LIST_H

#include <stdbool.h>
#include <stdio.h>

/* Look at each control socket that is found (find.h), giving its server so
 * long to answer, and print a line for each, or a JSON array.  A socket
 * that turns out to be something else's is passed over.  False: there was none.
 */
extern bool list_servers (int timeout_ms, bool json, FILE *out);

#endif /* ZMEM_CTL_LIST_H */
