/* The version of boltzmax that these headers belong to. */
#ifndef BOLTZMAX_VERSION_H
#define BOLTZMAX_VERSION_H

#define BOLTZMAX_VERSION_STRING "0.1.0"

#endif
