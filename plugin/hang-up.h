/* zmem
 * Copyright The zmem authors
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Does this nbdkit survive a client that hangs up?
 */

#ifndef ZMEM_HANG_UP_H
#define ZMEM_HANG_UP_H

#include <stdbool.h>

/* May several threads work on one connection?  False where a client that
 * hangs up with requests in flight could end the server, and the disk.
 */
extern bool hang_up_is_survived (void);

#endif /* ZMEM_HANG_UP_H */
