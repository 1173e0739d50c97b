# The same program from C and C++, shared and static. Included by projects that got the targets in different ways:
# the names are equal in each.
set(CMAKE_C_STANDARD 99)
set(CMAKE_CXX_STANDARD 11)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")
foreach(language c cpp)
  foreach(kind shmslot static)
    add_executable(${language}_${kind} "${CMAKE_CURRENT_LIST_DIR}/consumer.${language}")
    target_compile_options(${language}_${kind} PRIVATE -Wall -Wextra -Wpedantic -Werror)
    target_link_libraries(${language}_${kind} PRIVATE shmslot::${kind})
  endforeach()
endforeach()
