/* What code that speaks MPI itself (parallel HDF5) needs from a comm. */
#ifndef WEFT_RUNTIME_COMM_COMM_MPI_H
#define WEFT_RUNTIME_COMM_COMM_MPI_H

#include <mpi.h>

#include "runtime/comm/comm.h"

/* The communicator of all ranks, with errors returned; owned by `comm`. Its point-to-point messages
 * belong to the comm: use collectives or a duplicate, from the thread that made the comm. */
MPI_Comm comm_mpi_communicator(const struct comm *comm);

#endif
