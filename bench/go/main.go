// For each line on stdin, a number: starts the program with that many descriptors from 3 up, and
// prints the seconds until it has ended.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"time"
)

func main() {
	var files []*os.File
	var count int
	for {
		if _, err := fmt.Scanln(&count); err != nil {
			return
		}
		for len(files) < count {
			file, err := os.Open("/dev/null")
			if err != nil {
				panic(err)
			}
			files = append(files, file)
		}
		before := time.Now()
		command := exec.Command(os.Args[1])
		command.ExtraFiles = files[:count]
		if err := command.Run(); err != nil {
			panic(err)
		}
		fmt.Println(time.Since(before).Seconds())
	}
}
