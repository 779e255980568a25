#include "proxy/comparer.hpp"
