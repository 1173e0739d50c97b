#include "consumer.c" // the header must serve C++ as it stands
