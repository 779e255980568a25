#include "proxy/translator.hpp"
