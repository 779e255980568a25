#include "proxy/packet.hpp"
