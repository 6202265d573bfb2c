// SPDX-License-Identifier: MPL-2.0

// What a vendor's library does to the process that opens its device. Exceptions are real ones: the C++
// runtime of the system makes and throws them.

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "wrapper.h"

void fake_fault(const char *what);

// std::runtime_error("..."), that nobody catches.
static void throw_exception(void) {
  void *runtime = dlopen("libstdc++.so.6", RTLD_NOW | RTLD_GLOBAL);
  void (*thrower)(const char *) = NULL;
  if (runtime) {
    *(void **)&thrower = dlsym(runtime, "_ZSt21__throw_runtime_errorPKc");
  }
  if (!thrower) {
    fprintf(stderr, "no C++ runtime: %s\n", dlerror());
    return;
  }
  thrower("the firmware is of another day");
}

static void say_network(void) {
  int connection = socket(AF_INET, SOCK_STREAM, 0);
  fprintf(stderr, "socket(AF_INET): %s\n", connection < 0 ? strerror(errno) : "open");
  _exit(4);
}

void fake_fault(const char *what) {
  if (!strcmp(what, "null")) {
    volatile bm_handle_t *nowhere = NULL;
    // Hidden from a compiler that would see it coming.
    __asm__("" : "+r"(nowhere));
    *nowhere = (bm_handle_t)what;
  } else if (!strcmp(what, "throw")) {
    throw_exception();
  } else if (!strcmp(what, "twice")) {
    void *block = malloc(64);
    void *volatile again = block;
    free(block);
    free(again);
  } else if (!strcmp(what, "exit")) {
    exit(7);
  } else if (!strcmp(what, "hang")) {
    for (;;) {
      pause();
    }
  } else if (!strcmp(what, "socket")) {
    say_network();
  }
}
