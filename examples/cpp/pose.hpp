// What both programs mean by a pose. Its name and size are compared when they attach.
#pragma once

struct Pose {
    static constexpr const char *shmslot_type_name = "example.Pose";
    double x;
    double y;
    double heading;
};
