// SPDX-License-Identifier: Apache-2.0
#include "runsc/main.h"

int main(int argc, char** argv) { return runsc::Main(argc, argv); }
