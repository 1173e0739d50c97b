// What both programs mean by a pose. The name and the size are compared when they come together.
#pragma once

struct Pose {
    static constexpr const char *shmslot_type_name = "example.Pose";
    double x;
    double y;
    double heading;
};
