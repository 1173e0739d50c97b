# The same program from C, from C++ with the C header and from C++ with its own, shared and static. Included by projects
# that got the targets in different ways: the names are equal in each.
set(CMAKE_C_STANDARD 99)
set(CMAKE_CXX_STANDARD 11)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")
foreach(source consumer.c consumer.cpp consumer_hpp.cpp)
  string(REGEX REPLACE "^consumer[._]([a-z]+).*" "\\1" language "${source}") # c, cpp, hpp
  foreach(kind shmslot static)
    add_executable(${language}_${kind} "${CMAKE_CURRENT_LIST_DIR}/${source}")
    target_compile_options(${language}_${kind} PRIVATE -Wall -Wextra -Wpedantic -Werror)
    target_link_libraries(${language}_${kind} PRIVATE shmslot::${kind})
  endforeach()
endforeach()
set_target_properties(hpp_shmslot hpp_static PROPERTIES CXX_STANDARD 17)
