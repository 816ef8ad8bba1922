"""What do the recordings say, as tables, grids and plots?"""
