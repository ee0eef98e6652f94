def add(numbers):
    print("adding", len(numbers))
    return sum(numbers)
