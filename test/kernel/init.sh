#!/bin/busybox sh
# The first program on emulated bare metal: mounts what the host shares and the root image, loads KVM,
# runs the job inside the root image and turns the machine off. The console shows how far it came.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
say() { echo "kernel-test: $1, up $(cut -d' ' -f1 /proc/uptime) s"; }
say "Linux $(uname -r)"

# On the kernel's command line, which becomes the environment of init.
(
  sleep "$kernel_test_seconds"
  say 'out of time'
  poweroff -f
) &

for module in $(cat /modules/order); do
  insmod "/modules/$module" || say "insmod $module failed"
done
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=none share /mnt || say 'no share'
mount -t ext4 -o ro /dev/vda /system || say 'no root image'
for folder in /dev /proc /sys /mnt; do
  mount --bind "$folder" "/system$folder"
done
mount -t tmpfs tmp /system/tmp

say 'job begins'
chroot /system /bin/sh /mnt/job.sh >/mnt/stdout 2>/mnt/stderr
echo $? >/mnt/status
say 'job ended'
sync
poweroff -f
